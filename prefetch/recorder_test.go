package prefetch_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"caravel/prefetch"
)

func TestRecorder(t *testing.T) {
	x := letters(t, "abcdef")
	r := prefetch.NewRecorder(x.Len())
	if p := r.Profile(x); p.Len() != 0 || p.Index != x.Sum() {
		t.Errorf("%d chunks at first", p.Len())
	}
	for _, row := range []int{4, 0, 4, 1, -1, 6, 1 << 40, 0, 5} {
		r.Touch(row)
	}
	before := r.Profile(x)
	r.Touch(2)
	if got := spell(before); got != "eabf" || before.Runs() != 3 || before.Bytes() != 'e'+'a'+'b'+'f' {
		t.Errorf("got %s in %d runs, %d bytes", got, before.Runs(), before.Bytes())
	}
	if got := spell(r.Profile(x)); got != "eabfc" {
		t.Errorf("later: %s", got)
	}
	if got := spell(r.Profile(letters(t, "abc"))); got != "abc" {
		t.Errorf("of a shorter index: %s", got)
	}
}

// Many touch the same rows, while snapshots are taken: each row comes once, and
// a later snapshot begins with the one before it.
func TestRecorderOfManyReaders(t *testing.T) {
	const n = 1000
	x := noise(t, n, 1)
	r := prefetch.NewRecorder(n)
	var readers sync.WaitGroup
	for seed := range uint64(8) {
		readers.Go(func() {
			for _, row := range rand.New(rand.NewPCG(1, seed)).Perm(n) {
				r.Touch(row)
			}
		})
	}
	var last *prefetch.Profile
	for range 50 {
		p := r.Profile(x)
		if last != nil && !slices.Equal(slices.Collect(last.Chunks()), slices.Collect(p.Chunks())[:last.Len()]) {
			t.Fatal("a snapshot that does not go on from the one before")
		}
		last = p
	}
	readers.Wait()
	rows := r.Profile(x).Rows(x)
	slices.Sort(rows)
	if len(rows) != n || rows[0] != 0 || rows[n-1] != n-1 {
		t.Errorf("%d rows of %d", len(rows), n)
	}
}

// What is recorded, written and read again wants the same rows.
func TestRecordReplay(t *testing.T) {
	x := noise(t, 300, 1)
	rows := rand.New(rand.NewPCG(1, 2)).Perm(300)[:100]
	var file bytes.Buffer
	if _, err := touched(x, rows...).WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	p, err := prefetch.ReadProfile(&file)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Rows(x); !slices.Equal(got, rows) || p.Index != x.Sum() {
		t.Errorf("got %v, want %v", got, rows)
	}
}

// BenchmarkTouch is what recording costs a read: of a chunk that was read
// before, alone and with others, and of one that is read for the first time.
func BenchmarkTouch(b *testing.B) {
	b.Run("again", func(b *testing.B) {
		r := prefetch.NewRecorder(1 << 24)
		b.ReportAllocs()
		for row := 0; b.Loop(); row++ {
			r.Touch(row & 1023)
		}
	})
	b.Run("again, parallel", func(b *testing.B) {
		r := prefetch.NewRecorder(1 << 24)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for row := 0; pb.Next(); row++ {
				r.Touch(row & 1023)
			}
		})
	})
	b.Run("first", func(b *testing.B) {
		var r *prefetch.Recorder
		b.ReportAllocs()
		for row := 0; b.Loop(); row++ {
			if row&(1<<20-1) == 0 {
				r = prefetch.NewRecorder(1 << 20)
			}
			r.Touch(row & (1<<20 - 1))
		}
	})
}

// What is touched beyond the million is left out: no profile holds more.
func TestRecorderOfTooMuch(t *testing.T) {
	const most = 1 << 20
	x := letters(t, "abcd")
	r := prefetch.NewRecorder(most + 4)
	r.Touch(3)
	for row := range most - 2 {
		r.Touch(4 + row)
	}
	for _, row := range []int{2, 1, 0} { // there is room for one of them
		r.Touch(row)
	}
	if got := spell(r.Profile(x)); got != "dc" {
		t.Errorf("got %s", got)
	}
}
