// Package sim simulates fleets of processes on one store, and checks every answer against the
// promises. It has tests only; see TestSimulation.
package sim
