package store_test

import (
	"strings"
	"testing"
	"time"

	"caravel/store"
)

func TestUnfinished(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for name, want := range map[string]bool{
		"abcd/" + id + ".cacnk": false,
		"abcd/" + id:            false,
		"abcd/" + id + ".cacnk.xchacha20-0badc0de": false,
		"disk.caibx": false,
		"tmp":        false,
		store.UnfinishedName("abcd/" + id + ".cacnk"):   true,
		store.UnfinishedName("disk.caibx"):              true,
		"abcd/.tmp-cacnk.123":                           true, // desync, in a directory
		"abcd/" + id + ".cacnk5577006791947779410":      true, // desync, on an SFTP server
		"abcd/" + id + "5577006791947779410":            true,
		"abcd/" + id + ".cacnk.0123456789abcdef.tmp":    true, // casync
		"abcd/" + id[:63] + "g.cacnk557700679194777941": false,
	} {
		if got := store.Unfinished(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestTimeTag(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, tt := range []struct {
		size    int64
		changed time.Time
		want    string
	}{
		{16, now.Add(-time.Hour), "f3430-10"},
		{16, now.Add(time.Hour), "f5050-10"}, // another clock
		{16, now.Add(-time.Second), ""},
		{16, now.Add(time.Second), ""},
		{-1, now.Add(-time.Hour), ""},
		{16, time.Time{}, ""},
	} {
		if got := store.TimeTag(tt.size, tt.changed, now); got != tt.want {
			t.Errorf("%d bytes, %v: %q, want %q", tt.size, tt.changed, got, tt.want)
		}
	}
}
