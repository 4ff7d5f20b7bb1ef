package ftp_test

import (
	"strings"
	"testing"

	"caravel/store/ftp"
)

func TestLocations(t *testing.T) {
	tests := []struct {
		location string
		folder   string // as String has it
		name     string
		want     string // of the error
	}{
		{"ftp://host/srv/disk.caibx", "ftp://host/srv", "disk.caibx", ""},
		{"ftp://host/disk.caibx", "ftp://host", "disk.caibx", ""},
		{"ftps://me:secret@host:990/a/b", "ftps://me@host:990/a", "b", ""},
		{"ftpes://host:2121//srv/disk.caibx", "ftpes://host:2121//srv", "disk.caibx", ""},
		{"ftp://[::1]:21/a%20b/c%3f%23", "ftp://[::1]:21/a%20b", "c?#", ""},
		{"ftp://host/a/", "", "", "ftp://host/a/: names a folder, not a file"},
		{"ftp://host", "", "", "names a folder"},
		{"ftp://host/a/..", "", "", "names a folder"},
		{"ftp:///a/b", "", "", "names no host"},
		{"ftp://me:sec%zzret@host/a", "", "", "ftp://host/a: malformed URL"},
		{"ftp://me:secret@host/a?b", "", "", "ftp://host/a: a ? in a URL is written %3F"},
		{"ftp://host/a#b", "", "", "%23"},
		{"ftp://host/a%0d%0aDELE%20b", "", "", "end of a line"},
		{"http://host/a", "", "", "not an ftp, ftps or ftpes URL"},
	}
	for _, tt := range tests {
		d, name, err := ftp.Object(tt.location, ftp.Options{})
		if tt.want != "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, want %q", tt.location, err, tt.want)
			}
			continue
		}
		if err != nil || d.String() != tt.folder || name != tt.name {
			t.Errorf("%s: %v and %q, %v; want %s and %q", tt.location, d, name, err, tt.folder, tt.name)
		}
	}
}

func FuzzLocation(f *testing.F) {
	for _, seed := range []string{"ftp://me:x@host:2222/a/b", "ftps://[::1%25eth0]//a%20b/c", "ftp://host//x", "ftpes://a:b@c/d?e#f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, location string) {
		d, name, err := ftp.Object(location, ftp.Options{})
		if err != nil {
			return
		}
		again, name2, err := ftp.Object(d.Locate(name), ftp.Options{})
		if err != nil || again.String() != d.String() || name2 != name {
			t.Errorf("%q: %q in %q, shown as %q, is %v, %q, %v", location, name, d, d.Locate(name), again, name2, err)
		}
	})
}
