package walk_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"caravel/catar/walk"
)

// BenchmarkGoTree packs the tree of the Go distribution: 17,000 nodes, 235 MB.
func BenchmarkGoTree(b *testing.B) {
	said, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip(err)
	}
	goTree := strings.TrimSpace(string(said))
	want, err := casync(b, goTree)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(want)))
	b.ReportAllocs()
	buf := make([]byte, 1<<20)
	for b.Loop() {
		r, err := walk.Open(b.Context(), goTree, all, walk.Options{})
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Read(buf)
		}
		if err != io.EOF || r.Stats().Entries < 1000 {
			b.Fatal(err, r.Stats())
		}
		r.Close()
	}
	b.StopTimer()
	got, _, err := pack(b, goTree, all, walk.Options{})
	if err != nil || !bytes.Equal(got, want) {
		b.Fatalf("not casync's archive: error %v", err)
	}
}

// BenchmarkWide packs a folder of many empty files, where the metadata is all.
func BenchmarkWide(b *testing.B) {
	dir := b.TempDir()
	const files = 100_000
	for i := range files {
		f, err := os.Create(filepath.Join(dir, "file-"+strconv.Itoa(i)))
		if err != nil || f.Close() != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := walk.Open(b.Context(), dir, all, walk.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil || r.Stats().Entries != files+1 {
			b.Fatal(err, r.Stats())
		}
		r.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*files), "ns/file")
}

// BenchmarkLarge packs one file of 1 GiB, from memory, and one that is a hole.
func BenchmarkLarge(b *testing.B) {
	for _, name := range []string{"bytes", "hole"} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			f, err := os.Create(filepath.Join(dir, "large"))
			if err != nil {
				b.Fatal(err)
			}
			const size = 1 << 30
			if err := f.Truncate(size); err != nil {
				b.Fatal(err)
			}
			if name == "bytes" {
				block := bytes.Repeat([]byte("x"), 1<<20)
				for range size >> 20 {
					if _, err := f.Write(block); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				r, err := walk.Open(b.Context(), dir, all, walk.Options{})
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n < size {
					b.Fatal(n, err)
				}
				r.Close()
			}
		})
	}
}
