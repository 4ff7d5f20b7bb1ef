package nearest_test

import (
	"testing"

	"caravel/internal/nearest"
)

func TestWord(t *testing.T) {
	known := []string{"store", "extra-store", "cache", "s"}
	for typed, want := range map[string]string{"stroe": "store", "cach": "cache", "x": "", "exstra-stor": "extra-store", "memory": ""} {
		if got := nearest.Word(typed, known); got != want {
			t.Errorf("%s: got %q, want %q", typed, got, want)
		}
	}
}
