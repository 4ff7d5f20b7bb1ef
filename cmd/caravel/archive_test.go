package main

import "testing"

func TestCleanPath(t *testing.T) {
	for typed, want := range map[string]string{"": "", "/": "", ".": "", "a/b": "a/b", "/a//b/": "a/b", "./a/../b": "b", "../..": ""} {
		if got := cleanPath(typed); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}
