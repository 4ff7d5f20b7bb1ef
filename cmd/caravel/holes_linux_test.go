package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// The holes of a plain file are those that it has at the time.
func TestHolesIn(t *testing.T) {
	const size = 8 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(off int64) func() error {
		return func() error {
			_, err := f.WriteAt(bytes.Repeat([]byte{1}, 1<<20), off)
			return err
		}
	}
	var mode fs.FileMode
	for _, tt := range []struct {
		name   string
		change func() error
		off, n int64
		want   string
	}{
		{"all of it", func() error { return f.Truncate(size) }, 0, size, "[0 8388608]"},
		{"data in the middle", write(2 << 20), 0, size, "[0 2097152] [3145728 5242880]"},
		{"a part", nil, 1 << 20, 1 << 20, "[1048576 1048576]"},
		{"data alone", nil, 2 << 20, 1 << 20, ""},
		{"from data into a hole", nil, 2 << 20, 2 << 20, "[3145728 5242880]"},
		{"beyond the end", nil, size - 4096, 1 << 20, "[8384512 4096]"},
		{"behind the end", nil, size, 1 << 20, ""},
		{"filled meanwhile", write(0), 0, 3 << 20, "[1048576 1048576]"},
		{"grown", func() error { return f.Truncate(2 * size) }, 4 << 20, 2 * size, "[4194304 4194304]"},
		{"shortened into a hole", func() error { return f.Truncate(4 << 20) }, 3 << 20, size, "[3145728 1048576]"},
		{"shortened into data", func() error { return f.Truncate(5 << 19) }, 2 << 20, size, ""},
		{"no file", func() error { mode = fs.ModeDevice; return f.Truncate(size) }, 0, size, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change != nil {
				if err := tt.change(); err != nil {
					t.Fatal(err)
				}
			}
			got := ""
			for off, n := range holesIn(f, mode, size)(tt.off, tt.n) {
				got += fmt.Sprintf(" [%d %d]", off, n)
			}
			if got != "" {
				got = got[1:]
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
