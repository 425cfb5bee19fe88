//go:build race

package sink

// raceEnabled tells tests that the race detector is on.
const raceEnabled = true
