package tree_test

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"
	"testing"

	"caravel/catar/tree"
)

// distributionBytes is the archive of the Go distribution's tree.
func distributionBytes(tb testing.TB) memory {
	file, size := distribution(tb)
	data := make(memory, size)
	if _, err := file.ReadAt(data, 0); err != nil && err != io.EOF {
		tb.Fatal(err)
	}
	return data
}

// BenchmarkSkimmer takes what a sidecar needs of the tree of the Go
// distribution while that is packed.
func BenchmarkSkimmer(b *testing.B) {
	data := distributionBytes(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		s := tree.NewSkimmer()
		for i := 0; i < len(data); i += 64 << 10 {
			s.Write(data[i:min(i+64<<10, len(data))])
		}
		file, err := s.Sidecar([32]byte{})
		if err != nil || len(file) > len(data)/1000 {
			b.Fatal(len(file), err)
		}
	}
}

// BenchmarkReadSidecar opens the tree of the Go distribution by its sidecar.
func BenchmarkReadSidecar(b *testing.B) {
	data := distributionBytes(b)
	file := skimmed(b, data)
	b.Logf("%d bytes", len(file))
	b.ReportAllocs()
	for b.Loop() {
		s, err := tree.ReadSidecar(bytes.NewReader(file), [32]byte{}, int64(len(data)))
		if err != nil {
			b.Fatal(err)
		}
		t, err := tree.Open(b.Context(), data, int64(len(data)), tree.Options{Sidecar: s})
		if err != nil || t.Len() < 10_000 {
			b.Fatal(t.Len(), err)
		}
	}
}

// BenchmarkReadSidecarMillion opens a tree of a million files in directories of
// 1000.
func BenchmarkReadSidecarMillion(b *testing.B) {
	m := newMaker(b, flags)
	for i := range 1000 {
		m.dir(fmt.Sprintf("directory-%04d", i))
		for j := range 1000 {
			m.file(fmt.Sprintf("file-%03d", j), (i+j)%100)
		}
		m.end()
	}
	data := memory(m.bytes())
	file := skimmed(b, data)
	var t *tree.Tree
	before := heapInUse()
	b.ReportAllocs()
	for b.Loop() {
		t = openWith(b, readSidecar(b, file, len(data)), data, tree.Options{})
	}
	b.ReportMetric(float64(heapInUse()-before)/float64(t.Len()), "B/entry")
	b.ReportMetric(float64(len(file)), "B/file")
	if a, err := t.Find(b.Context(), "directory-0999/file-999"); err != nil || a.Size != 98 || t.Len() != 1001001 {
		b.Fatal(a, t.Len(), err)
	}
}

// BenchmarkConfirmAll compares all of a sidecar with an archive in memory.
func BenchmarkConfirmAll(b *testing.B) {
	data := distributionBytes(b)
	s := readSidecar(b, skimmed(b, data), len(data))
	b.ReportAllocs()
	for b.Loop() {
		t, err := tree.Open(b.Context(), data, int64(len(data)), tree.Options{Sidecar: s})
		if err == nil {
			err = t.ConfirmAll(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDigest is what a make does with the same bytes at least.
func BenchmarkDigest(b *testing.B) {
	data := distributionBytes(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sha512.Sum512_256(data)
	}
}
