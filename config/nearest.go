package config

import "strings"

// Nearest returns the candidate that word was most likely meant to be, "" where none is close: one
// edit for each three letters, and at least two.
func Nearest(word string, candidates []string) string {
	// A word longer than any of ours is not worth the square of its length.
	if len(word) > 64 {
		return ""
	}
	best, limit := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(plain(word), plain(c)); d < limit {
			best, limit = c, d
		}
	}
	return best
}

// plain takes away what people spell differently: case, dashes and underscores.
func plain(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance is the number of letters to insert, delete, replace or swap with the next one to make
// b of a.
func distance(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
