package catar_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"caravel/catar"
	"caravel/feature"
)

const (
	benchDirs  = 100
	benchFiles = 100 // in each
)

// encodeTree writes a tree of 10,000 files of size bytes each in 100 folders.
func encodeTree(b *testing.B, w io.Writer, size int) {
	e, err := catar.NewEncoder(w, (feature.All | feature.SHA512_256).Normal())
	if err != nil {
		b.Fatal(err)
	}
	dir := catar.Entry{Mode: 0o40755, UID: 1000, GID: 1000, User: "somebody", Group: "users", MTime: 1700000000123456789}
	file := dir
	file.Mode, file.Size = 0o100644, int64(size)
	payload := make([]byte, size)
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	must(e.Begin("", &dir))
	for i := range benchDirs {
		must(e.Begin(names[i], &dir))
		for k := range benchFiles {
			must(e.Begin(names[k], &file))
			_, err := e.Write(payload)
			must(err)
		}
		must(e.End())
	}
	must(e.End())
}

var names = func() (list [100]string) {
	for i := range list {
		list[i] = fmt.Sprintf("some_file_%02d.go", i)
	}
	return list
}()

func BenchmarkEncoder(b *testing.B) {
	for _, size := range []int{0, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("files of %d bytes", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size * benchDirs * benchFiles))
			for b.Loop() {
				encodeTree(b, io.Discard, size)
			}
		})
	}
}

func BenchmarkDecoder(b *testing.B) {
	for _, size := range []int{0, 4 << 10, 64 << 10} {
		var archive bytes.Buffer
		encodeTree(b, &archive, size)
		for _, way := range []string{"read", "skipped", "seeking"} {
			b.Run(fmt.Sprintf("files of %d bytes %s", size, way), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size * benchDirs * benchFiles))
				payload := make([]byte, 128<<10)
				for b.Loop() {
					var r io.Reader = bytes.NewReader(archive.Bytes())
					if way != "seeking" {
						r = onlyReader{r}
					}
					d, nodes := catar.NewDecoder(r, catar.DecoderOptions{}), 0
					for _, err := d.Next(); err != io.EOF; _, err = d.Next() {
						for nodes++; way == "read" && err == nil; {
							_, err = d.Read(payload)
						}
						if err != nil && err != io.EOF {
							b.Fatal(err)
						}
					}
					if nodes != 1+benchDirs+benchDirs*benchFiles {
						b.Fatalf("%d nodes", nodes)
					}
				}
			})
		}
	}
}

func BenchmarkParseHead(b *testing.B) {
	archive := read(b, "testdata/tree.default.catar")
	nodes, err := random(archive)
	if err != nil {
		b.Fatal(err)
	}
	const f = 0xb0000001ffeffe26
	b.ReportAllocs()
	for b.Loop() {
		for _, n := range nodes {
			if got, _, err := catar.ParseHead(archive[n.Start:], n.Start, n.end, f); err != nil || got.Body != n.Body {
				b.Fatal(got, err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(nodes)), "ns/head")
}

// A folder with a million children.
func BenchmarkTable(b *testing.B) {
	const n = 1 << 20
	items, at := make([]item, n), uint64(64)
	for i := range items {
		items[i] = item{at, 100, siphash(fmt.Sprint(i))}
		at += 100
	}
	goodbye := table(items, at)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(goodbye)))
		for b.Loop() {
			if t, err := catar.ParseTable(goodbye, 64, int64(at)); err != nil || t.Len() != n {
				b.Fatal(err)
			}
		}
	})
	t, err := catar.ParseTable(goodbye, 64, int64(at))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("find", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got := t.Find("77777"); len(got) != 1 || got[0].Start != 64+100*77777 {
				b.Fatal(got)
			}
		}
	})
}
