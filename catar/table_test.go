package catar_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"caravel/catar"
)

// tableOf lists children of the names given, each of 100 bytes, from body on.
func tableOf(body uint64, names ...string) (b []byte, goodbye int64) {
	var items []item
	at := body
	for _, name := range names {
		items = append(items, item{at, 100, siphash(name)})
		at += 100
	}
	return table(items, at), int64(at)
}

func TestFind(t *testing.T) {
	for n := range 130 {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("name", i))
		}
		b, goodbye := tableOf(64, names...)
		tab, err := catar.ParseTable(b, 64, goodbye)
		if err != nil || tab.Len() != n {
			t.Fatalf("%d children: %v", n, err)
		}
		for i, name := range names {
			want := catar.Span{Start: 64 + 100*int64(i), End: 164 + 100*int64(i)}
			if got := tab.Find(name); len(got) != 1 || got[0] != want || tab.Span(i) != want || !tab.Has(name, want) || tab.Has("other", want) {
				t.Errorf("%q of %d: found at %v, child %d is at %v, not %v", name, n, got, i, tab.Span(i), want)
			}
		}
		if got := tab.Find("other"); got != nil {
			t.Errorf("one of %d that is not there: found at %v", n, got)
		}
	}
}

// Children whose names have one hash: two that were searched for, as casync and
// as desync list them, then more of them than anybody will find.
func TestFindEqualHashes(t *testing.T) {
	for _, name := range []string{"collision", "desync/collision"} {
		archive := read(t, "testdata/"+name+".catar")
		end := int64(len(archive))
		goodbye, _, err := catar.ParseTail(archive[end-catar.TailSize:], end)
		if err != nil {
			t.Fatal(err)
		}
		tab, err := catar.ParseTable(archive[goodbye:], 64, goodbye)
		if err != nil {
			t.Fatal(err)
		}
		want := []catar.Span{tab.Span(3), tab.Span(4)}
		for _, name := range []string{"tIW_WszBowK", "xzFQLlRJoRP"} {
			if got := tab.Find(name); !slices.Equal(got, want) {
				t.Errorf("%s: found at %v, not %v", name, got, want)
			}
		}
	}

	for n := range 40 {
		for same := range n + 1 {
			var items []item
			var want []catar.Span
			for i := range n {
				it := item{uint64(64 + 100*i), 100, siphash(fmt.Sprint(i))}
				if i%3 == 0 && len(want) < same {
					it.hash = siphash("same")
					want = append(want, catar.Span{Start: int64(it.back), End: int64(it.back) + 100})
				}
				items = append(items, it)
			}
			goodbye := int64(64 + 100*n)
			slices.Reverse(items) // what is equal stays so, when the table sorts it
			tab, err := catar.ParseTable(table(items, uint64(goodbye)), 64, goodbye)
			if err != nil {
				t.Fatal(err)
			}
			if got := tab.Find("same"); !slices.Equal(got, want) {
				t.Fatalf("%d of %d: found at %v, not %v", same, n, got, want)
			}
			for i := range n {
				if s := tab.Span(i); tab.Has("same", s) != slices.Contains(want, s) {
					t.Fatalf("%d of %d: %v", same, n, s)
				}
			}
		}
	}
}

func TestParseTableRefuses(t *testing.T) {
	set := func(i int, v uint64) func(b []byte) []byte {
		return func(b []byte) []byte { return append(appendU64(b[:8*i:8*i], v), b[8*i+8:]...) }
	}
	tests := []struct {
		name  string
		spoil func(b []byte) []byte
		want  string
	}{
		{"another record", set(1, typePayload), "PAYLOAD where a GOODBYE should be"},
		{"unknown record", set(1, 1), "no record has the type"},
		{"size not of whole items", set(0, 16+3*24+25), "GOODBYE of 113 bytes, not 40 and 24 for each child"},
		{"size below a tail's", set(0, 39), "GOODBYE of 39 bytes, below 40"},
		{"size of 1 TiB", set(0, 16+24<<40), "in a directory of 300 bytes"},
		{"bytes behind it", func(b []byte) []byte { return append(b, 0) }, "GOODBYE of 112 bytes in place of 113"},
		{"child before the directory", set(2, 301), "a child of 100 bytes, 301 before the table"},
		{"child behind the table", set(2, 99), "a child of 100 bytes, 99 before the table"},
		{"child without a name", set(3, 17), "a child of 17 bytes"},
		{"a gap", set(3, 99), "GOODBYE: "},
		{"one child twice", func(b []byte) []byte { copy(b[40:56], b[16:32]); return b }, "GOODBYE: child"},
		{"hash out of order", set(4, 0), "not in a search tree's order"},
		{"mark", set(2+9+2, 1), "marked 0x1"},
		{"tail's size", set(2+9+1, 112+24), "a tail of a table at"},
		{"tail's size huge", set(2+9+1, 1<<63), "a table of 9223372036854775808 bytes"},
		{"tail's ENTRY", set(2+9, 301), "an ENTRY at 699"},
		{"tail's ENTRY in the table", set(2+9, 63), "whose ENTRY is 63 bytes before it"},
		{"tail's ENTRY before the archive", set(2+9, 1<<40), "whose ENTRY is 1099511627776 bytes before it"},
	}
	for _, tt := range tests {
		b, goodbye := tableOf(700, "one", "two", "three")
		copy(b[len(b)-24:], appendU64(nil, 364)) // the ENTRY is 64 bytes before the first child
		if _, err := catar.ParseTable(b, 700, goodbye); err != nil {
			t.Fatal(err)
		}
		_, err := catar.ParseTable(tt.spoil(slices.Clone(b)), 700, goodbye)
		if err == nil || !strings.HasPrefix(err.Error(), "catar: offset 1") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.want)
		}
	}
	for n, ok := range map[int]bool{16: true, 17: false} {
		var items []item
		for i := range n {
			items = append(items, item{uint64(64 + 100*i), 100, 1 << 60})
		}
		goodbye := int64(64 + 100*n)
		if _, err := catar.ParseTable(table(items, uint64(goodbye)), 64, goodbye); (err == nil) != ok {
			t.Errorf("%d names with one hash: %v", n, err)
		}
	}
	for _, at := range [][2]int64{{0, 100}, {700, 699}, {64, 1<<63 - 40}} {
		if _, err := catar.ParseTable(nil, at[0], at[1]); err == nil {
			t.Errorf("a table at %d of a directory from %d on is accepted", at[1], at[0])
		}
	}
}

func TestParseTableAsksForMore(t *testing.T) {
	b, goodbye := tableOf(64, "one", "two", "three")
	for n, want := range map[int]int{0: 40, 15: 40, 16: len(b), len(b) - 1: len(b)} {
		var short *catar.ShortError
		if _, err := catar.ParseTable(b[:n], 64, goodbye); !errors.As(err, &short) || short.Need != want {
			t.Errorf("with %d bytes: %v, want %d", n, err, want)
		}
	}
}

func TestParseTailRefuses(t *testing.T) {
	good := appendU64(nil, 64, 40, tailMark)
	if goodbye, entry, err := catar.ParseTail(good, 104); goodbye != 64 || entry != 0 || err != nil {
		t.Fatal(goodbye, entry, err)
	}
	for name, bad := range map[string]struct {
		b   []byte
		end int64
	}{
		"short":             {good[1:], 104},
		"end":               {good, 23},
		"negative end":      {good, -1},
		"mark":              {appendU64(nil, 64, 40, tailMark+1), 104},
		"size too small":    {appendU64(nil, 64, 16, tailMark), 104},
		"size not whole":    {appendU64(nil, 64, 41, tailMark), 1040},
		"size beyond":       {appendU64(nil, 64, 40+24*3, tailMark), 104},
		"ENTRY beyond":      {appendU64(nil, 65, 40, tailMark), 104},
		"ENTRY too near":    {appendU64(nil, 63, 40, tailMark), 104},
		"ENTRY beyond 2^63": {appendU64(nil, 1<<64-1, 40, tailMark), 104},
	} {
		if _, _, err := catar.ParseTail(bad.b, bad.end); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The decoder looks at every number of a table, and at equal hashes as well.
func TestDecoderRefusesEveryOtherTable(t *testing.T) {
	for _, name := range []string{"small", "collision", "desync/collision"} {
		archive := read(t, "testdata/"+name+".catar")
		end := int64(len(archive))
		goodbye, _, err := catar.ParseTail(archive[end-catar.TailSize:], end)
		if err != nil {
			t.Fatal(err)
		}
		for i := goodbye; i < end; i++ {
			spoilt := slices.Clone(archive)
			spoilt[i] ^= 1
			if refused(bytes.NewReader(spoilt)) == nil {
				t.Errorf("%s: accepted with another byte %d", name, i)
			}
		}
	}

	// The two orders of equal hashes, and one of them in the place of both.
	casync, desync := read(t, "testdata/collision.catar"), read(t, "testdata/desync/collision.catar")
	tableAt := len(casync) - 40 - 5*24 + 16
	items := func(archive []byte) [][]byte {
		return slices.Collect(slices.Chunk(archive[tableAt:tableAt+5*24], 24))
	}
	var ties []int // where the two have other things
	for i, it := range items(casync) {
		if !bytes.Equal(it, items(desync)[i]) {
			ties = append(ties, i)
		}
	}
	if len(ties) != 2 {
		t.Fatalf("%d items differ", len(ties))
	}
	for i, first := range [][]byte{casync, desync} {
		for k, second := range [][]byte{casync, desync} {
			mixed := slices.Clone(desync)
			copy(mixed[tableAt+24*ties[0]:], items(first)[ties[0]])
			copy(mixed[tableAt+24*ties[1]:], items(second)[ties[1]])
			if err := refused(bytes.NewReader(mixed)); (err == nil) != (i == k) {
				t.Errorf("order %d of one and order %d of the other: %v", i, k, err)
			}
		}
	}
	swapped := slices.Clone(casync)
	copy(swapped[tableAt+24*ties[0]:], items(desync)[ties[0]])
	copy(swapped[tableAt+24*ties[1]:], items(desync)[ties[1]])
	if err := refused(bytes.NewReader(swapped)); err == nil {
		t.Error("desync's order is accepted in an archive of casync's")
	}
}
