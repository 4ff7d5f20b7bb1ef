// Package nearest guesses which of the words that there are somebody meant by one that
// there is not.
package nearest

import "slices"

// Word is the known word that was probably meant by what was typed, "" if none is
// near. Single letters are never near.
func Word(typed string, known []string) string {
	known = slices.Sorted(slices.Values(known))
	best, least := "", 2+len(typed)/3
	for _, word := range known {
		if d := distance(typed, word); d < least && min(len(typed), len(word)) > 1 {
			best, least = word, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete, replace or swap with their
// neighbour that makes b of a.
func distance(a, b string) int {
	two, one, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		two, one, row = one, row, two
		row[0] = i + 1
		for j := range len(b) {
			change := one[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, one[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], two[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
