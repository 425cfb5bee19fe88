//go:build !race

package model

// race tells that the race detector is on.
const race = false
