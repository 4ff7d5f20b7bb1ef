package redact_test

import (
	"strings"
	"testing"

	"caravel/internal/redact"
)

func TestURL(t *testing.T) {
	tests := []struct{ location, want string }{
		{"/a/path?x#y", "/a/path?x#y"},
		{"host:path", "host:path"},
		{"-", "-"},
		{"http://h/a", "http://h/a"},
		{"https://me:secret@h:1/a%20b?token=secret#secret", "https://h:1/a%20b"},
		{"https://me:sec/ret@h/a", "https://h/a"}, // malformed
		{"https://me:secret@h/%zz?secret", "https://h/%zz"},
		{"s3+https://key:secret@h/bucket/*", "s3+https://h/bucket/*"},
		{"file:///a?b", "file:///a"},
	}
	for _, tt := range tests {
		if got := redact.URL(tt.location); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.location, got, tt.want)
		}
	}
}

// Nothing is left of what stands before the last @ of a host, or behind a ?.
func FuzzURL(f *testing.F) {
	f.Add("http://%s@h/a?%s")
	f.Fuzz(func(t *testing.T, text string) {
		const secret = "s3cr3t"
		if strings.Contains(text, secret) {
			return
		}
		for _, location := range []string{"https://me:" + secret + "@h/" + text, "ftp://" + secret + "@" + text, "https://h/a?" + secret} {
			if got := redact.URL(location); strings.Contains(got, secret) {
				t.Errorf("%q: %q", location, got)
			}
		}
	})
}
