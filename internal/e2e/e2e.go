// Package e2e tests the cache as programs use it: on Redis servers, over several processes, in
// outages and failovers, under load. It has tests only.
package e2e
