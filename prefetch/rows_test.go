package prefetch_test

import (
	"slices"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
)

func TestRows(t *testing.T) {
	tests := []struct {
		name  string
		image string
		rows  []int
		next  string // version of the image
		want  []int
	}{
		{"the same image", "abcdef", []int{3, 4, 0, 5}, "abcdef", []int{3, 4, 0, 5}},
		{"nothing touched", "abc", nil, "abc", nil},
		{"an empty image", "abc", []int{1}, "", nil},
		{"a chunk inserted", "abcdef", []int{3, 4, 0, 5}, "abXcdef", []int{4, 5, 0, 6}},
		{"a chunk gone", "abcdef", []int{3, 4, 0, 5}, "abcdf", []int{3, 0, 4}},
		{"all gone", "abc", []int{0, 1, 2}, "xyz", nil},
		{"in another order", "abcdef", []int{0, 1, 2}, "fedcba", []int{5, 4, 3}},
		{"repeated chunks have rows of their own", "aabaa", []int{4, 0, 2}, "aabaa", []int{4, 0, 2}},
		{"repeated chunks that have moved are one", "aabaa", []int{4, 0, 2}, "xbaaa", []int{2, 1}},
		{"found in place and by ID", "ab", []int{0, 1}, "aab", []int{0, 2}},
		{"the same place and size, another chunk", "abc", []int{1}, "aBc", nil},
		{"the last one", "abcdef", []int{5}, "abcdef", []int{5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := touched(letters(t, tt.image), tt.rows...)
			if got := p.Rows(letters(t, tt.next)); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A chunk is told by its ID, whatever stands at its offset.
func TestRowsMatchTheID(t *testing.T) {
	p := touched(letters(t, "abc"), 1)
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: 100, Max: 200})
	for _, id := range []byte("axb") {
		size := int(id)
		if id == 'x' {
			size = 'b' // in the place of b, as long as b
		}
		if err := b.Append(chunker.ID{id}, size); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.Rows(b.Index()); !slices.Equal(got, []int{2}) {
		t.Errorf("got %v", got)
	}
}

// What another version has is found in that version, and wherever else.
func TestRowsOfMerged(t *testing.T) {
	x, next := letters(t, "abcd"), letters(t, "dxyc")
	p := touched(x, 0, 3)
	p.Merge(touched(next, 2, 0, 3))
	for _, tt := range []struct {
		x    *index.Index
		want []int
	}{{x, []int{0, 3, 2}}, {next, []int{0, 2, 3}}} {
		if got := p.Rows(tt.x); !slices.Equal(got, tt.want) {
			t.Errorf("got %v, want %v", got, tt.want)
		}
	}
}

// The next version of an image has six chunks of seven, all of them elsewhere.
func TestRowsOfTheNextVersion(t *testing.T) {
	const n = 5000
	x, next := noise(t, n, 1), noise(t, n, 2)
	b := index.NewBuilder(x.Flags, x.Params)
	for row := range next.Len() + 1 { // a new chunk in front of all
		id, size := chunker.ID{0xff}, 50_000
		if row > 0 {
			id, size = next.Chunk(row-1).ID, next.Chunk(row-1).Size
		}
		if err := b.Append(id, size); err != nil {
			t.Fatal(err)
		}
	}
	var rows, want []int
	for i := range 1000 {
		row := i * 2741 % n
		rows = append(rows, row)
		if row%7 != 0 {
			want = append(want, row+1)
		}
	}
	if got := touched(x, rows...).Rows(b.Index()); !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d; or in another order", len(got), len(want))
	}
}

// BenchmarkRows looks for what a boot touches in the index of a 1 TiB image:
// recorded with it, and with the version before.
func BenchmarkRows(b *testing.B) {
	const n = 16 << 20
	x := noise(b, n, 1)
	rows := make([]int, 2000)
	for i := range rows {
		rows[i] = (i/8*8 + 1<<20*(i%8)) % n
	}
	for _, old := range []bool{false, true} {
		name := map[bool]string{false: "same", true: "next version"}[old]
		b.Run(name, func(b *testing.B) {
			p := touched(x, rows...)
			if old {
				q := touched(letters(b, "a"))
				q.Merge(p) // which takes all places away
				p = q
			}
			b.ReportAllocs()
			for b.Loop() {
				if got := p.Rows(x); len(got) != p.Len() {
					b.Fatalf("%d rows of %d", len(got), p.Len())
				}
			}
		})
	}
}
