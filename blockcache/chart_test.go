package blockcache

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var someHeader = header{index: [32]byte{1, 2, 31: 3}, off: 5, size: 1 << 40, rows: 100_000, head: 1000, tail: 2000}

func TestParseHeaderRejects(t *testing.T) {
	good := someHeader.encode()
	spoil := func(at int, b byte) []byte {
		bad := bytes.Clone(good)
		bad[at] ^= b
		return bad
	}
	tests := []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, "not a map"},
		{"short", good[:headerSize-1], "not a map"},
		{"magic", spoil(0, 1), "not a map"},
		{"version", spoil(8, 2), "a map of version 3, not 1"},
		{"index", spoil(20, 1), "a damaged map (checksum"},
		{"size", spoil(57, 1), "a damaged map (checksum"},
		{"checksum", spoil(headerSize-1, 1), "a damaged map (checksum"},
		{"negative", header{size: -1}.encode(), "a damaged map (0xffffffffffffffff at offset 56)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseHeader(tt.b); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// FuzzChart opens a map of any bytes: what is accepted is what would be written,
// and no bit is read but those of chunks.
func FuzzChart(f *testing.F) {
	small := someHeader
	small.rows = 100
	whole := append(small.encode(), make([]byte, chartBlock-headerSize)...)
	f.Add(append(whole, bytes.Repeat([]byte{0xff}, 20)...))
	f.Add(whole)
	f.Add(small.encode())
	f.Add(small.encode()[:headerSize-4]) // what is missing was zeros
	f.Add([]byte(chartMagic))
	f.Add([]byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err == nil && !bytes.Equal(h.encode(), b[:headerSize]) {
			t.Errorf("%+v is not what was read", h)
		}
		path := filepath.Join(dir, "map")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		c := &chart{header: small, file: file, out: synced{file}, data: file}
		if ours := c.ours() == nil; ours != (len(b) >= headerSize && bytes.Equal(small.encode(), b[:headerSize])) {
			t.Errorf("taken for ours: %v", ours)
		}
		set := newBits(100)
		if err := c.load(set); err != nil {
			t.Fatal(err)
		}
		if set[1].Load()>>36 != 0 {
			t.Error("a bit behind the last chunk")
		}
	})
}

// Bits that others have set stay, in whichever block they are.
func TestChartMerges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	open := func() *chart {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		return &chart{header: someHeader, file: file, out: synced{file}, data: file}
	}
	change := func(c *chart, set, unset []int) {
		t.Helper()
		if err := c.change(set, unset); err != nil {
			t.Fatal(err)
		}
	}
	a, b := open(), open()
	if err := a.begin(); err != nil {
		t.Fatal(err)
	}
	change(a, []int{99_999, 0, 32_767, 32_768}, nil)
	change(b, []int{7, 50_000, 1}, nil)
	change(a, []int{2}, []int{1, 32_768, 60_000})
	set := newBits(100_000)
	if err := b.load(set); err != nil {
		t.Fatal(err)
	}
	var got []int
	for i := range 100_000 {
		if set.has(i) {
			got = append(got, i)
		}
	}
	if want := []int{0, 2, 7, 32_767, 50_000, 99_999}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := a.ours(); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != a.length() {
		t.Errorf("%d bytes long, want %d (%v)", st.Size(), a.length(), err)
	}
}

func TestBits(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 128, 130} {
		b := newBits(n)
		for i := range n {
			if b.has(i) || !b.set(i) || b.set(i) || !b.has(i) {
				t.Errorf("%d of %d", i, n)
			}
		}
		for i := range n {
			if !b.clear(i) || b.clear(i) || b.has(i) {
				t.Errorf("%d of %d", i, n)
			}
		}
	}
}
