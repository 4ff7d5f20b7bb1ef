package oci

import (
	"strings"
	"testing"

	"oras.land/oras-go/v2/registry"
)

func TestTags(t *testing.T) {
	id := strings.Repeat("1a2b", 16)
	tests := []struct{ name, tag string }{
		{"1a2b/" + id + ".cacnk", id + ".cacnk"},
		{"1a2b/" + id, id},
		{"1a2b/" + id + ".cacnk.aes-256-gcm-01020304", id + ".cacnk.aes-256-gcm-01020304"},
		{"disk.caibx", "disk.caibx"},
		{"disk.caibx.profile", "disk.caibx.profile"},
		{"my_disk-1.caibx", "my_disk-1.caibx"},
		{".hidden", "_.hidden"},
		{"_x", "__5fx"},
		{"a b", "_a_20b"},
		{"deep/er", "_deep_2fer"},
		{id, "_" + id},                  // not where a chunk lies
		{"ffff/" + id, "_ffff_2f" + id}, // neither
		{"1a2b/" + id + "x", "_1a2b_2f" + id + "x"},
		{"ä", "__c3_a4"},
	}
	for _, tt := range tests {
		tag, err := tagOf(tt.name)
		if err != nil || tag != tt.tag {
			t.Errorf("%s: tag %q, %v; want %q", tt.name, tag, err, tt.tag)
		}
		if name, ok := nameOf(tag); !ok || name != tt.name {
			t.Errorf("%s: back it is %q, %v", tt.name, name, ok)
		}
	}
	for _, name := range []string{"", ".", "..", "/a", "a/", "a/../b", strings.Repeat("n", 129), strings.Repeat("ä", 30)} {
		if tag, err := tagOf(name); err == nil {
			t.Errorf("%q: %q", name, tag)
		}
	}
	for _, tag := range []string{"_", "_a", "__5", "__5f_", "__zz", "_a_2F", "-a", "__61"} {
		if name, ok := nameOf(tag); ok {
			t.Errorf("%q: is %q", tag, name)
		}
	}
}

// Each name has a tag of its own, which a registry takes.
func FuzzTags(f *testing.F) {
	f.Add("disk.caibx")
	f.Add("_a_20b")
	f.Add("a/b\x00")
	f.Fuzz(func(t *testing.T, text string) {
		if tag, err := tagOf(text); err == nil {
			if name, ok := nameOf(tag); !ok || name != text {
				t.Errorf("%q: tag %q, back %q", text, tag, name)
			}
			if err := (registry.Reference{Registry: "h", Repository: "r", Reference: tag}).ValidateReferenceAsTag(); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
		if name, ok := nameOf(text); ok {
			if tag, err := tagOf(name); err != nil || tag != text {
				t.Errorf("tag %q: name %q, back %q, %v", text, name, tag, err)
			}
		}
	})
}
