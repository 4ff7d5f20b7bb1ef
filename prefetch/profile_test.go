package prefetch_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/prefetch"
)

// letters makes an index of a chunk for each byte of s; equal bytes are equal
// chunks, of as many bytes as their value says.
func letters(t testing.TB, s string) *index.Index {
	t.Helper()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: 100, Max: 200})
	for _, c := range []byte(s) {
		if err := b.Append(chunker.ID{c}, int(c)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index()
}

// touched is the profile of a run over x that touches rows.
func touched(x *index.Index, rows ...int) *prefetch.Profile {
	r := prefetch.NewRecorder(x.Len())
	for _, row := range rows {
		r.Touch(row)
	}
	return r.Profile(x)
}

// spell is what a profile's chunks are called in letters, in capitals those that
// have no place.
func spell(p *prefetch.Profile) string {
	var s []byte
	for c := range p.Chunks() {
		letter := c.ID[:1]
		if c.Start < 0 {
			letter = bytes.ToUpper(letter)
		}
		s = append(s, letter...)
	}
	return string(s)
}

func TestMerge(t *testing.T) {
	x, next := letters(t, "abcdefgh"), letters(t, "xbcdyz")
	tests := []struct {
		name   string
		p      *prefetch.Profile
		others []*prefetch.Profile
		want   string
		runs   int
	}{
		{"nothing", touched(x, 1, 2), nil, "bc", 1},
		{"of one index", touched(x, 1, 2), []*prefetch.Profile{touched(x, 2, 0, 7), touched(x, 7, 6)}, "bcahg", 4},
		{"itself", touched(x, 3, 1), []*prefetch.Profile{touched(x, 3, 1)}, "db", 2},
		{"of another version", touched(x, 1, 0), []*prefetch.Profile{touched(next, 1, 0, 2, 4), touched(next, 4)}, "baXCY", 3},
		{"the other way round", touched(next, 4, 5), []*prefetch.Profile{touched(x, 5, 1)}, "yzFB", 2},
		{"into an empty one", touched(x), []*prefetch.Profile{touched(x, 5)}, "f", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			index := tt.p.Index
			tt.p.Merge(tt.others...)
			if got := spell(tt.p); got != tt.want || tt.p.Runs() != tt.runs || tt.p.Len() != len(tt.want) || tt.p.Index != index {
				t.Errorf("got %s in %d runs, want %s in %d", got, tt.p.Runs(), tt.want, tt.runs)
			}
		})
	}
}

// noise makes an index of n chunks with IDs as digests are; those of every
// seventh row depend on the seed.
func noise(t testing.TB, n int, seed byte) *index.Index {
	t.Helper()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.DefaultParams())
	for i := range n {
		var id chunker.ID
		binary.LittleEndian.PutUint64(id[:], uint64(i+1)*0x9e3779b97f4a7c15)
		binary.LittleEndian.PutUint64(id[8:], uint64(i))
		if i%7 == 0 {
			id[31] = seed
			id[0] ^= seed
		}
		if err := b.Append(id, 60_000+i%1000); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index()
}

func ids(p *prefetch.Profile) (all []chunker.ID) {
	for c := range p.Chunks() {
		all = append(all, c.ID)
	}
	return all
}
