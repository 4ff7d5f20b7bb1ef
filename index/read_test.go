package index_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/index"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// files returns the names of what casync wrote.
func files(t testing.TB) []string {
	t.Helper()
	names, err := fs.Glob(os.DirFS("testdata"), "*.cai[bd]x")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 28 {
		t.Fatalf("%d index files in testdata, want 28", len(names))
	}
	return names
}

// written returns what x looks like as a file.
func written(t testing.TB, x *index.Index) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := x.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo: got %d, %v for %d bytes", n, err, b.Len())
	}
	return b.Bytes()
}

// TestCasyncsFiles reads what casync wrote, in every way, and writes it back.
func TestCasyncsFiles(t *testing.T) {
	for _, name := range files(t) {
		file := load(t, name)
		for _, size := range []int64{-1, int64(len(file))} {
			for _, r := range []io.Reader{bytes.NewReader(file), iotest.OneByteReader(bytes.NewReader(file)), iotest.DataErrReader(bytes.NewReader(file))} {
				x, err := index.Read(r, size)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !bytes.Equal(written(t, x), file) {
					t.Errorf("%s: written back, it differs", name)
				}

				b := index.NewBuilder(x.Flags, x.Params)
				for i := range x.Len() {
					c := x.Chunk(i)
					if err := b.Append(c.ID, c.Size); err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(written(t, b.Index()), file) {
					t.Errorf("%s: built again, it differs", name)
				}
			}
		}
	}
}

func TestReadValues(t *testing.T) {
	x, err := index.Read(bytes.NewReader(load(t, "text-1M.default.caibx")), -1)
	if err != nil {
		t.Fatal(err)
	}
	c := x.Chunk(1)
	got := fmt.Sprintf("%#x %v %v %d %d; %v %d %d %d", uint64(x.Flags), x.Digest(), x.Params, x.Len(), x.Size(), c.ID, c.Start, c.Size, c.End())
	const want = "0xb000000000000000 sha512-256 16384:65536:262144 16 1048576; " +
		"63e83f758ea10a82f9ef7fbc84b904d6db76ee976f27d770547d54bfe51dffd1 22537 19968 42505"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestReadRejects has the files that were made for this, and what is said of
// each of them when its length is known and when it is not.
func TestReadRejects(t *testing.T) {
	tests := map[string]struct{ known, unknown string }{
		"good":                {"", ""},
		"flags-no-sha512-bit": {"", ""}, // refused when a chunk is compared with its ID
		"offset-shifted-1":    {"", ""}, // refused when a chunk has another length
		"wrong-chunk-id":      {"", ""}, // refused when a chunk is compared with its ID

		"empty":            {"offset 0: truncated in the header", ""},
		"truncated-header": {"offset 50: truncated in the header", ""},
		"truncated-item":   {"194 bytes long, not 104 and 40 for each chunk", "offset 194: truncated in the table"},
		"no-tail":          {"offset 664: tail has 0x100000, not 0x0", "offset 704: truncated in the table"},
		"tail-cut":         {"736 bytes long, not 104 and 40 for each chunk", "offset 736: truncated in the table"},

		"trailing-byte":            {"745 bytes long, not 104 and 40 for each chunk", "offset 744: bytes after the tail"},
		"trailing-item-size-zeros": {"offset 744: bytes after the tail", ""},

		"header-size-56": {"offset 0: header has 0x38, not 0x30", ""},
		"type-wrong":     {"offset 8: header has 0x1, not 0x96824d9c7b129ff9", ""},
		"table-size-set": {"offset 48: head of the table has 0x2b8, not 0xffffffffffffffff", ""},
		"table-type":     {"offset 56: head of the table has 0x1, not 0xe75b9e112f17417d", ""},

		"flags-unknown-bit": {"flags 0xb000010000000000: unknown bits 0x10000000000", ""},
		"flags-all-ones":    {"flags 0xffffffffffffffff: unknown bits 0xffffffe00000000", ""},
		"flags-non-normal":  {"flags 0xb000000000000028: not normalized, which would be 0xb000000000000020", ""},

		"min-0":     {"chunker: sizes 0:65536:262144: the minimum is below 1", ""},
		"mingtavg":  {"chunker: sizes 70000:65536:262144: the minimum is above the average", ""},
		"avggtmax":  {"chunker: sizes 16384:300000:262144: the average is above the maximum", ""},
		"maxgt128m": {"offset 40: chunk size 134217729 is above 134217728", ""},

		"first-offset-0":           {"offset 64: chunk 0 ends at 0, not after 0", ""},
		"equal-offsets":            {"offset 104: chunk 1 ends at 22537, not after 22537", ""},
		"decreasing":               {"offset 104: chunk 1 ends at 22536, not after 22537", ""},
		"offset-2-63":              {"offset 664: chunk 15 ends at 9223372036854775808, beyond 2^63-1", ""},
		"max-smaller-than-a-chunk": {"offset 64: chunk 0 has 22537 bytes, above the maximum of 3000", ""},

		"tail-fill1":        {"offset 704: tail has 0x1, not 0x0", "offset 704: chunk 16 ends at 1, not after 1048576"},
		"tail-fill2":        {"offset 712: tail has 0x1, not 0x0", "offset 704: chunk 16 ends at 0, not after 1048576"},
		"tail-index-offset": {"offset 720: tail has 0x31, not 0x30", ""},
		"tail-size":         {"offset 728: tail has 0x0, not 0x2b8", ""},
		"tail-marker":       {"offset 736: tail has 0x0, not 0x4b4f050e5549ecd1", ""},
	}
	names, err := fs.Glob(os.DirFS("testdata"), "malformed/*.caibx")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(tests) {
		t.Errorf("%d files, %d cases", len(names), len(tests))
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := load(t, "malformed/"+name+".caibx")
			want := map[int64]string{int64(len(file)): tt.known, -1: tt.unknown}
			if tt.unknown == "" {
				want[-1] = tt.known
			}
			for size, want := range want {
				x, err := index.Read(bytes.NewReader(file), size)
				if want == "" {
					if err != nil {
						t.Errorf("size %d: %v", size, err)
					} else if !bytes.Equal(written(t, x), file) {
						t.Errorf("size %d: written back, it differs", size)
					}
					continue
				}
				if err == nil || err.Error() != "index: "+want {
					t.Errorf("size %d: got %v, want index: %s", size, err, want)
				}
			}
		})
	}
}

func TestReadRejectsOtherFiles(t *testing.T) {
	for _, text := range []string{"a text that is long enough for the head of an index, but is none at all", strings.Repeat("\x00", 200)} {
		_, err := index.Read(strings.NewReader(text), int64(len(text)))
		if err == nil || !strings.Contains(err.Error(), "not an index") {
			t.Errorf("got %v", err)
		}
	}
}

func TestReadRejectsEveryTruncation(t *testing.T) {
	file := load(t, "mixed-512K.default.caibx")
	for n := range file {
		for _, size := range []int64{-1, int64(n), int64(len(file))} {
			_, err := index.Read(bytes.NewReader(file[:n]), size)
			if err == nil || !strings.HasPrefix(err.Error(), "index: ") {
				t.Errorf("%d bytes, size %d: got %v", n, size, err)
			}
			if size != int64(n) && !strings.Contains(err.Error(), fmt.Sprintf("offset %d: truncated", n)) {
				t.Errorf("%d bytes, size %d: got %v", n, size, err)
			}
		}
	}
}

func TestReadRejectsAnotherSize(t *testing.T) {
	file := load(t, "mixed-512K.default.caibx")
	for _, size := range []int64{0, 1, 103, int64(len(file)) - 40, int64(len(file)) + 40, 1<<62 + 24} {
		if _, err := index.Read(bytes.NewReader(file), size); err == nil {
			t.Errorf("size %d: got no error", size)
		}
	}
	_, err := index.Read(bytes.NewReader(file), int64(len(file))+80)
	if want := "index: offset 464: end of the file, not at 544"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = index.Read(bytes.NewReader(append(file, make([]byte, 80)...)), int64(len(file)))
	if want := "index: offset 464: bytes after the tail"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReadPassesErrorsOn(t *testing.T) {
	broken := errors.New("connection reset")
	file := load(t, "mixed-512K.default.caibx")
	for n := range len(file) + 1 {
		_, err := index.Read(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)), -1)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), fmt.Sprintf("index: offset %d: ", n)) {
			t.Errorf("after %d bytes: got %v", n, err)
		}
	}
}

// allocated returns how many bytes f asks for.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A file that says it is huge costs what arrives of it.
func TestReadAllocatesWhatArrives(t *testing.T) {
	header := load(t, "empty.default.caibx")[:64]
	for _, arriving := range []int{0, 1, 5000, 100000} {
		file := bytes.Clone(header)
		for i := range arriving {
			file = binary.LittleEndian.AppendUint64(file, uint64(i+1))
			file = append(file, make([]byte, 32)...)
		}
		for _, size := range []int64{-1, 104 + 40*250000, 104 + 40<<20, 104 + 40<<40, 1<<63 - 1 - (1<<63-1-104)%40} {
			var err error
			got := allocated(func() { _, err = index.Read(bytes.NewReader(file), size) })
			if want := fmt.Sprintf("index: offset %d: truncated in the table", len(file)); err == nil || err.Error() != want {
				t.Errorf("%d rows, size %d: got %v, want %s", arriving, size, err, want)
			}
			if limit := uint64(10*len(file) + 600<<10); got > limit {
				t.Errorf("%d rows, size %d: %d bytes allocated, want at most %d", arriving, size, got, limit)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range files(f) {
		if file := load(f, name); len(file) < 1000 {
			f.Add(file, true)
			f.Add(file, false)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte, known bool) {
		size := int64(-1)
		if known {
			size = int64(len(file))
		}
		x, err := index.Read(bytes.NewReader(file), size)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "index: ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q", err)
			}
			return
		}
		if !bytes.Equal(written(t, x), file) {
			t.Error("written back, it differs")
		}
		var end int64
		for i := range x.Len() {
			c := x.Chunk(i)
			if c.Start != end || c.Size < 1 || c.Size > x.Params.Max {
				t.Fatalf("chunk %d: %+v after %d", i, c, end)
			}
			if end = c.End(); x.Find(c.Start) != i || x.Find(end-1) != i {
				t.Fatalf("chunk %d is not found", i)
			}
		}
		if x.Size() != end {
			t.Errorf("size %d, want %d", x.Size(), end)
		}
	})
}
