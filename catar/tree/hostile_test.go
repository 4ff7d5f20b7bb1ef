package tree_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
)

// An item is a child in an archive that is put together by hand.
type item struct {
	name string
	node []byte // from its ENTRY on
	hash uint64 // in the table; 0: the name's
}

// assemble puts an archive together, with the children as they are given.
func assemble(t testing.TB, f feature.Flags, items ...item) []byte {
	t.Helper()
	b := newMaker(t, f).bytes()[:64]
	type row struct{ hash, start, size uint64 }
	var rows []row
	for _, it := range items {
		start := len(b)
		b = binary.LittleEndian.AppendUint64(b, uint64(16+len(it.name)+1))
		b = binary.LittleEndian.AppendUint64(b, 0x6dbb6ebcb3161f0b)
		b = append(append(append(b, it.name...), 0), it.node...)
		if it.hash == 0 {
			it.hash = hashOf(t, it.name)
		}
		rows = append(rows, row{it.hash, uint64(start), uint64(len(b) - start)})
	}
	slices.SortFunc(rows, func(a, b row) int {
		if a.hash != b.hash {
			return map[bool]int{true: -1, false: 1}[a.hash < b.hash]
		}
		return int(a.start) - int(b.start)
	})
	heap := make([]row, len(rows))
	var put func(rows []row, at int)
	put = func(rows []row, at int) {
		if len(rows) == 0 {
			return
		}
		levels := bits.Len(uint(len(rows)))
		full := 1<<(levels-1) - 1
		k := (full-1)/2 + min(len(rows)-full, 1<<(levels-1)/2)
		if levels == 1 {
			k = 0
		}
		heap[at] = rows[k]
		put(rows[:k], 2*at+1)
		put(rows[k+1:], 2*at+2)
	}
	put(rows, 0)
	goodbye, size := uint64(len(b)), uint64(16+24*len(rows)+24)
	for _, v := range []uint64{size, 0xdfd35c5e8327c403} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, r := range heap {
		for _, v := range []uint64{goodbye - r.start, r.size, r.hash} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
	}
	for _, v := range []uint64{goodbye, size, 0x57446fa533702943} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// hashOf is the hash of a name, out of an archive that has it.
func hashOf(t testing.TB, name string) uint64 {
	m := newMaker(t, flags)
	m.file(name, 0)
	b := m.bytes()
	return binary.LittleEndian.Uint64(b[len(b)-catar.TailSize-8:])
}

// node is what make writes of a file.
func node(t testing.TB, f feature.Flags, size int) []byte {
	m := newMaker(t, f)
	m.file("a", size)
	b := m.bytes()
	s := open(t, b).Span(tree.Root)
	return b[64+18 : s.End-16-48]
}

func names(t *testing.T, tr *tree.Tree) string {
	t.Helper()
	paths, err := everything(t.Context(), tr)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(paths, ",")
}

// desync writes a FIFO as a name without a node, and does not sort.
func TestDesync(t *testing.T) {
	file := node(t, feature.Desync, 5)
	fifo := item{name: "fifo"}
	b := assemble(t, feature.Desync, item{name: "z", node: file}, fifo, item{name: "a", node: file}, item{name: "m", node: file})
	for _, listed := range []bool{false, true} {
		tr := open(t, b)
		if listed {
			if got := names(t, tr); got != ",z,a,m" {
				t.Errorf("names %q", got)
			}
		}
		for _, name := range []string{"a", "m", "z"} {
			a, err := tr.Lookup(t.Context(), tree.Root, name)
			if err != nil || a.Size != 5 || tr.Name(a.ID) != name {
				t.Errorf("listed %v, %q: %+v, %v", listed, name, a, err)
			}
		}
		for _, name := range []string{"fifo", "b", "zz"} {
			if _, err := tr.Lookup(t.Context(), tree.Root, name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("listed %v, %q: %v", listed, name, err)
			}
		}
	}
	if got := names(t, open(t, assemble(t, feature.Desync, fifo))); got != "" {
		t.Errorf("of a FIFO alone: %q", got)
	}
}

// Two names with one hash, found by searching (the hash has 64 bits and its key
// is known to everybody), are both there.
func TestEqualHashes(t *testing.T) {
	const a, b = "7KUY7mCZDYB", "HvLMLyZ1EKF"
	if hashOf(t, a) != hashOf(t, b) {
		t.Fatal("the hashes differ")
	}
	small, large := node(t, flags, 3), node(t, flags, 3000)
	data := assemble(t, flags, item{name: a, node: small}, item{name: b, node: large}, item{name: "x", node: small})
	for _, first := range []string{a, b} {
		tr := open(t, data)
		for _, name := range []string{first, a, b, "x"} {
			got, err := tr.Lookup(t.Context(), tree.Root, name)
			want := int64(3)
			if name == b {
				want = 3000
			}
			if err != nil || got.Size != want {
				t.Errorf("%q first, %q: %+v, %v", first, name, got, err)
			}
		}
		if got := names(t, tr); got != ","+a+","+b+",x" || tr.Len() != 4 {
			t.Errorf("names %q, %d entries", got, tr.Len())
		}
	}
}

// What is refused, whether it is listed or looked up.
func TestRefused(t *testing.T) {
	file, d := node(t, flags, 5), feature.Desync
	many := make([]item, 20)
	for i := range many {
		many[i] = item{name: string(rune('a' + i)), node: file, hash: hashOf(t, "a")}
	}
	// If each of these were looked for among all, it would take minutes.
	same := slices.Repeat([]item{{name: "a", node: file}}, 30_000)
	tests := []struct {
		name   string
		data   []byte
		lookup string // finds it as well; "": only a listing does
		want   string
	}{
		{"unsorted", assemble(t, flags, item{name: "b", node: file}, item{name: "a", node: file}), "", `"a" after "b": not sorted`},
		{"twice", assemble(t, flags, item{name: "a", node: file}, item{name: "a", node: file}), "a", `"a" is there twice`},
		{"twice, of desync", assemble(t, d, item{name: "b", node: node(t, d, 1)}, item{name: "a", node: node(t, d, 1)},
			item{name: "b", node: node(t, d, 2)}), "b", `"b" is there twice`},
		{"another's hash", assemble(t, flags, item{name: "a", node: file, hash: hashOf(t, "b")}), "b", `"a" is listed under the hash of another name`},
		{"one hash for all", assemble(t, flags, many...), "a", "names with one hash"},
		{"one name for all", assemble(t, flags, same...), "a", "names with one hash"},
		{"no node", assemble(t, flags, item{name: "a"}), "a", "truncated where an ENTRY should be"},
		{"more behind a file", assemble(t, flags, item{name: "a", node: append(slices.Clone(file), 0)}), "a", "payload"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, err := tree.Open(t.Context(), memory(tt.data), int64(len(tt.data)), tree.Options{})
			if err == nil {
				_, err = everything(t.Context(), tr)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "offset ") {
				t.Errorf("listed: got %v, want %q in it", err, tt.want)
			}
			if tt.lookup == "" || tr == nil {
				return
			}
			_, err = open(t, tt.data).Lookup(t.Context(), tree.Root, tt.lookup)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("looked up: got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// A table, and the tail of a directory below, that claim too much are refused
// before anything is read or kept for them.
func TestClaims(t *testing.T) {
	b := deep(t, 1, 5)
	at := func(path string) catar.Span {
		tr := open(t, b)
		a, err := tr.Find(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return tr.Span(a.ID)
	}
	for _, where := range []string{"", "d"} {
		end := at(where).End
		for _, v := range []uint64{0, 1, 16, 39, 41, 63, 64, 1 << 20, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
			for _, field := range []int64{24, 16, 8} {
				spoiled := slices.Clone(b)
				binary.LittleEndian.PutUint64(spoiled[end-field:], v)
				tr, err := tree.Open(t.Context(), memory(spoiled), int64(len(b)), tree.Options{})
				if err == nil {
					_, err = everything(t.Context(), tr)
				}
				if !slices.Equal(spoiled, b) && (err == nil || !strings.Contains(err.Error(), "offset ")) {
					t.Errorf("%d at %d before the end of %q: %v", v, field, where, err)
				}
			}
		}
	}
}
