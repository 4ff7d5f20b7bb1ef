package main

import "testing"

func TestDigestKind(t *testing.T) {
	tests := []struct {
		location, path string
		want           kind
	}{
		{"disk.caibx", "", blobIndex},
		{"tree.caidx", "", archiveIndex},
		{"tree.caidx", "usr/bin", archiveIndex},
		{"tree.catar", "", archiveKind},
		{t.TempDir(), "", folderKind},
		{"disk.img", "", blobKind},
		{"-", "", blobKind},
		{"-", "usr/bin", archiveKind}, // as in casync
		{"http://h/disk.caibx?v=1", "", blobIndex},
		{"http://h/tree.catar?v=1", "", archiveKind},
		{"http://h/latest", "", blobIndex}, // a plain file has no URL
		{"http://h/latest", "usr/bin", archiveIndex},
	}
	for _, tt := range tests {
		if got := digestKind(tt.location, tt.path, unknownKind); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.location, tt.path, got, tt.want)
		}
	}
	if got := digestKind("tree.catar", "", blobKind); got != blobKind {
		t.Errorf("what was said does not count: %q", got)
	}
}
