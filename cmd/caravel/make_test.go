package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestIndexMode checks that whoever may read the source may read the index, and
// that an index made of a pipe is not for its owner alone.
func TestIndexMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such modes")
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	usual, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		source fs.FileMode
		want   fs.FileMode
	}{
		{"private file", 0o600, 0o600},
		{"program", 0o711, 0o600},
		{"directory", fs.ModeDir | 0o755, 0o644},
		{"pipe", fs.ModeNamedPipe | 0o600, usual.Mode()},
		{"terminal", fs.ModeDevice | fs.ModeCharDevice | 0o600, usual.Mode()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.caibx")
			put, err := (&maker{out: path}).indexPlace(tt.source)
			if err != nil {
				t.Fatal(err)
			}
			if err := put(t.Context(), []byte("index")); err != nil {
				t.Fatal(err)
			}
			st, err := os.Stat(path)
			if err != nil || st.Mode() != tt.want {
				t.Errorf("mode %v, want %v (%v)", st.Mode(), tt.want, err)
			}
		})
	}
}
