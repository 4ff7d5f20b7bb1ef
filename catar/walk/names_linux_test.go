package walk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// dirent is a record as getdents writes it.
func dirent(name string, typ uint8) []byte {
	size := (direntName + len(name) + 1 + 7) / 8 * 8
	b := make([]byte, size)
	binary.NativeEndian.PutUint16(b[direntLength:], uint16(size))
	b[direntType] = typ
	copy(b[direntName:], name)
	return b
}

func TestNames(t *testing.T) {
	var b []byte
	want := []string{"\x01", "a", "a\x01", "a.", "aaaaaaaa", "aaaaaaaa\x01", "aaaaaaaaa", "aaaaaaab", "b", "\xff"}
	for i, k := range rand.New(rand.NewPCG(1, 1)).Perm(len(want)) {
		b = append(b, dirent(want[k], uint8(i))...)
	}
	b = slices.Concat(dirent("..", unix.DT_DIR), b, dirent(".", unix.DT_DIR))
	var l names
	if err := l.parse(b); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(l.all, l.compare)
	var got []string
	for _, n := range l.all {
		got = append(got, string(l.of(n)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range want {
		if !l.has(name) {
			t.Errorf("%q is not found", name)
		}
	}
	if l.has("aa") || l.has("") {
		t.Error("a name is found that is not there")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(slices.Concat(dirent(".", unix.DT_DIR), dirent("name", unix.DT_REG), dirent("a", unix.DT_LNK)))
	f.Add(dirent("name", unix.DT_REG)[:20])
	f.Add(bytes.Repeat([]byte{1}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l names
		if l.parse(b) != nil {
			return
		}
		slices.SortFunc(l.all, l.compare)
		for i, n := range l.all {
			name := l.of(n)
			if len(name) == 0 || bytes.IndexByte(name, 0) >= 0 || !bytes.Contains(b, name) || !l.has(string(name)) {
				t.Errorf("name %q", name)
			}
			if i > 0 && bytes.Compare(l.of(l.all[i-1]), name) > 0 {
				t.Errorf("%q is behind %q", name, l.of(l.all[i-1]))
			}
		}
	})
}

// BenchmarkSort: a folder of a million files.
func BenchmarkSort(b *testing.B) {
	var made names
	for i := range 1_000_000 {
		made.add(fmt.Appendf(nil, "IMG_%07d.jpg", i*7919%1_000_000), unix.DT_REG)
	}
	l := names{text: made.text}
	b.ReportAllocs()
	for b.Loop() {
		l.all = append(l.all[:0], made.all...)
		slices.SortFunc(l.all, l.compare)
	}
	if string(l.of(l.all[999])) != "IMG_0000999.jpg" {
		b.Fatal("not sorted")
	}
}
