//go:build race

package redistest

// UnderRace reports whether the race detector is in use.
const UnderRace = true
