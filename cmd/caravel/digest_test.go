package main

import "testing"

func TestIsIndex(t *testing.T) {
	for location, want := range map[string]bool{
		"disk.caibx":              true,
		"tree.caidx":              true,
		"disk.img":                false,
		"-":                       false,
		"http://h/disk.caibx?v=1": true,
		"http://h/latest":         true, // a plain file has no URL
	} {
		if got, err := isIndex(location, ""); got != want || err != nil {
			t.Errorf("%s: %v, %v", location, got, err)
		}
	}
}
