package catar_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/feature"
)

// seeds are archives for the fuzzers to start from.
func seeds(f *testing.F) [][]byte {
	var all [][]byte
	for _, archive := range vectors(f) {
		if len(archive) < 8<<10 {
			all = append(all, archive)
		}
	}
	for name := range faults {
		all = append(all, read(f, "testdata/malformed/"+name+".catar"))
	}
	for _, name := range []string{"special", "unsorted", "collision"} {
		all = append(all, read(f, "testdata/desync/"+name+".catar"))
	}
	return append(all, everything(f))
}

// Whatever is accepted is written back byte for byte, and found to be the same
// by the tables. No archive takes more memory than its size accounts for.
func FuzzDecoder(f *testing.F) {
	for _, archive := range seeds(f) {
		f.Add(archive)
	}
	f.Fuzz(accepted)
}

// The same for any node in an archive whose tables are right: changes at random
// hardly ever leave them so.
func FuzzNode(f *testing.F) {
	for _, archive := range seeds(f) {
		nodes, _ := random(archive)
		for _, n := range nodes {
			if n.end-n.Head < 1000 {
				f.Add(binary.LittleEndian.Uint64(archive[16:]), n.Name, archive[n.Head:n.end])
			}
		}
	}
	f.Fuzz(func(t *testing.T, flags uint64, name string, node []byte) {
		// With the flags that the node has.
		f := feature.Flags(flags).Normal()
		if len(node) >= 24 {
			copy(node[16:], appendU64(nil, uint64(f)))
		}
		archive := directory(f, child{name, node}, child{name + "0", node})
		copy(archive[24:], appendU64(nil, 0o40777))
		accepted(t, archive)
	})
}

func accepted(t *testing.T, archive []byte) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := refused(bytes.NewReader(archive))
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(256<<10+40*len(archive)); got > most {
		t.Fatalf("%d bytes of memory for %d", got, len(archive))
	}
	if err != nil {
		return
	}
	want, err := streamed(bytes.NewReader(archive), catar.DecoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if feature.Flags(binary.LittleEndian.Uint64(archive[16:])) == feature.Desync {
		return // not written back; and bytes behind the root are in the way of its tail
	}
	got, err := again(archive)
	if err != nil || !bytes.Equal(got, archive) {
		t.Fatalf("written back as %d bytes in place of %d, error %v", len(got), len(archive), err)
	}
	found, err := random(archive)
	if err != nil || len(found) != len(want) {
		t.Fatalf("%d nodes found in place of %d, error %v", len(found), len(want), err)
	}
	for i := range want {
		if !reflect.DeepEqual(found[i].Node, want[i]) {
			t.Fatalf("found %+v, not %+v", found[i].Node, want[i])
		}
	}
}

// What ParseHead accepts, the Decoder finds to be the same; and what it asks
// for is bounded.
func FuzzHead(f *testing.F) {
	for _, archive := range seeds(f) {
		nodes, _ := random(archive)
		for _, n := range nodes {
			f.Add(archive[n.Start:min(n.Body+100, n.end)], n.Start, n.end, binary.LittleEndian.Uint64(archive[16:]))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, start, end int64, flags uint64) {
		n, got, err := parseHead(b, start, end, feature.Flags(flags))
		if err != nil {
			if errors.As(err, new(*catar.ShortError)) || strings.Contains(err.Error(), "in round") || strings.Contains(err.Error(), "needs") {
				t.Fatal(err)
			}
			return
		}
		b = b[:min(int64(len(b)), end-start)]
		d := catar.NewDecoder(bytes.NewReader(b[n.Head-start:]), catar.DecoderOptions{Node: n, Flags: got})
		same, err := d.Next()
		if err != nil || !reflect.DeepEqual(same, n) {
			t.Fatalf("%+v is decoded as %+v, error %v", n, same, err)
		}
	})
}

// A table that is accepted accounts for every byte of its directory, and finds
// just the children that it has under a name's hash.
func FuzzTable(f *testing.F) {
	f.Add("", "a", 0, 0, byte(0), int64(64))
	f.Add("a", "a", 1, 0, byte(0), int64(64))
	f.Add("a/b/c/d/e/f/g/h/i/j", "a", 3, 0, byte(0), int64(64))
	f.Add("a/b/c/d/e/f", "z", 2, 30, byte(1), int64(1<<40))
	f.Add("a/b", "b", 1, 8, byte(255), int64(math.MaxInt64-400))
	f.Fuzz(func(t *testing.T, names, name string, every, at int, spoil byte, body int64) {
		if body < 64 || body > math.MaxInt64/2 {
			return
		}
		// Every so many children have the hash of the name that is looked for.
		var items []item
		goodbye := uint64(body)
		for i, child := range strings.Split(names, "/") {
			size := uint64(18 + len(child))
			it := item{goodbye, size, siphash(child)}
			if every > 0 && i%every == 0 {
				it.hash = siphash(name)
			}
			items = append(items, it)
			goodbye += size
		}
		b := table(items, goodbye)
		copy(b[len(b)-24:], appendU64(nil, goodbye-uint64(body)+64))
		if at >= 0 && at < len(b) {
			b[at] ^= spoil
		}

		tab, err := catar.ParseTable(b, body, int64(goodbye))
		if err != nil {
			if spoil == 0 && (len(items) <= 16 || !strings.Contains(err.Error(), "with one hash")) {
				t.Fatal(err)
			}
			return
		}
		var want []catar.Span
		for i := range tab.Len() {
			raw := b[16+24*i:]
			start := int64(goodbye - binary.LittleEndian.Uint64(raw))
			if binary.LittleEndian.Uint64(raw[16:]) == siphash(name) {
				want = append(want, catar.Span{Start: start, End: start + int64(binary.LittleEndian.Uint64(raw[8:]))})
			}
		}
		slices.SortFunc(want, func(a, b catar.Span) int { return cmp.Compare(a.Start, b.Start) })
		if got := tab.Find(name); !slices.Equal(got, want) {
			t.Fatalf("found at %v, not %v", got, want)
		}
		end := body
		for i := range tab.Len() {
			span := tab.Span(i)
			if span.Start != end || span.End < span.Start {
				t.Fatalf("child %d is at %v, behind %d", i, span, end)
			}
			end = span.End
		}
		if end != int64(goodbye) {
			t.Fatalf("the children end at %d, the table is at %d", end, goodbye)
		}
	})
}
