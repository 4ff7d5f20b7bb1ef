package index_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"caravel/index"
)

func newRemote(t testing.TB, r index.RangeReader) *index.Remote {
	t.Helper()
	x, err := index.NewRemote(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// seek finds a byte as a reader does, and checks what it is told.
func seek(t testing.TB, x *index.Remote, src *table, off int64) {
	t.Helper()
	row, err := x.Seek(t.Context(), off)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x.Row(t.Context(), row)
	if err != nil {
		t.Fatal(err)
	}
	if err := src.check(row, c.Start, int64(c.Size), c.ID, off); err != nil {
		t.Fatal(err)
	}
	if !x.Ready(off, 1) {
		t.Fatalf("byte %d was found and is not ready", off)
	}
}

// The first byte of a large image costs few reads: two at once for the ends, and
// the guess.
func TestRemoteFirstByte(t *testing.T) {
	src := newTable(16<<20, dataSize)
	rng := numbered(1)
	guessed := 0
	const tries = 100
	for range tries {
		src.reads.Store(0)
		src.bytes.Store(0)
		x := newRemote(t, src)
		if x.Len() != src.n || x.Size() != src.total() {
			t.Fatalf("%d rows, %d bytes; want %d, %d", x.Len(), x.Size(), src.n, src.total())
		}
		seek(t, x, src, src.offset(rng))
		n := src.reads.Load()
		if n > 4 || src.bytes.Load() > n*300<<10 {
			t.Fatalf("%d reads, %d bytes", n, src.bytes.Load())
		}
		if n <= 3 {
			guessed++
		}
	}
	if guessed < tries/2 {
		t.Errorf("the first guess was right %d times of %d", guessed, tries)
	}
}

// What is known makes guesses better, and nothing is read twice.
func TestRemoteManyBytes(t *testing.T) {
	src := newTable(1<<20, dataSize)
	x := newRemote(t, src)
	rng := numbered(2)
	for range 1000 {
		seek(t, x, src, src.offset(rng))
	}
	if n := src.reads.Load(); n > 161 {
		t.Errorf("%d reads for %d blocks", n, 161)
	}
	for _, off := range []int64{0, src.total() - 1} {
		seek(t, x, src, off)
	}
	if row, err := x.Seek(t.Context(), src.total()); row != src.n || err != nil {
		t.Errorf("behind the end: row %d, %v", row, err)
	}
}

func numbered(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// However uneven the chunks are, the number of reads grows with the logarithm of
// the table.
func TestRemoteUneven(t *testing.T) {
	const n = 1 << 18
	tests := map[string]func(i int) int64{
		"even":                  func(i int) int64 { return 65536 },
		"holes, then data":      func(i int) int64 { return pick(i < n/8, 262144, dataSize(i)) },
		"holes at the end":      func(i int) int64 { return pick(i > n-n/8, 262144, dataSize(i)) },
		"tiny, then as large":   func(i int) int64 { return pick(i < n-5_000, 1, 262144) },
		"tiny in the middle":    func(i int) int64 { return pick(i > n/4 && i < n/2, 1, 262144) },
		"large, then tiny":      func(i int) int64 { return pick(i < 5_000, 262144, 1) },
		"ever larger":           func(i int) int64 { return min(int64(1+i), 262144) },
		"ever larger, steeply":  func(i int) int64 { return int64(1 + 262143*math.Pow(float64(i)/n, 20)) },
		"holes in between":      func(i int) int64 { return pick(mix(uint64(i>>10))%2 == 0, 262144, dataSize(i)) },
		"holes here and there":  func(i int) int64 { return pick(mix(uint64(i))%8 == 0, 262144, dataSize(i)) },
		"one island of data":    func(i int) int64 { return pick(i > 170_000 && i < 172_500, 20_000, 262144) },
		"alternating by blocks": func(i int) int64 { return pick(i/6553%2 == 0, 1, 262144) },
	}
	for name, size := range tests {
		t.Run(name, func(t *testing.T) {
			src := newTable(n, size)
			rng := numbered(3)
			for range 8 {
				src.reads.Store(0)
				seek(t, newRemote(t, src), src, src.offset(rng))
				if reads := src.reads.Load(); reads > 2+3+2*6 { // of 41 blocks
					t.Errorf("%d reads", reads)
				}
			}
		})
	}
}

func pick(yes bool, a, b int64) int64 {
	if yes {
		return a
	}
	return b
}

// Small files are read whole.
func TestRemoteSmall(t *testing.T) {
	for _, n := range []int{0, 1, 100, 6553, 2 * 6553, 2*6553 + 1, 3 * 6553, 3*6553 + 1} {
		src := newTable(n, dataSize)
		x := newRemote(t, src)
		if x.Len() != n || x.Size() != src.total() {
			t.Errorf("%d rows, %d bytes; want %d, %d", x.Len(), x.Size(), n, src.total())
		}
		for i := range n {
			c, err := x.Row(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			if err := src.check(i, c.Start, int64(c.Size), c.ID, c.Start); err != nil {
				t.Fatal(err)
			}
		}
		if reads := int(src.reads.Load()); reads > 1+max(0, (n-1)/6553) {
			t.Errorf("%d rows: %d reads", n, reads)
		}
	}
}

func TestFill(t *testing.T) {
	for _, n := range []int{0, 5, 13107, 100_000, 6553 * 40} {
		src := newTable(n, dataSize)
		x := newRemote(t, src)
		rng := numbered(4)
		for range min(n, 5) {
			seek(t, x, src, src.offset(rng))
		}
		whole, err := x.Fill(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		file := make([]byte, src.Size())
		src.read(file, 0)
		if got := written(t, whole); !bytes.Equal(got, file) {
			t.Fatalf("%d rows: another file", n)
		}
		src.reads.Store(0)
		if again, err := x.Fill(t.Context()); again != whole || err != nil {
			t.Errorf("filled again: %p, %v; want %p", again, err, whole)
		}
		rng = numbered(5)
		for range min(n, 100) {
			seek(t, x, src, src.offset(rng))
		}
		if src.reads.Load() != 0 || !x.Ready(0, src.total()) {
			t.Errorf("%d rows: %d reads after all was there; ready: %v", n, src.reads.Load(), x.Ready(0, src.total()))
		}
	}
}

func TestRemoteAtOnce(t *testing.T) {
	src := newTable(300_000, dataSize)
	x := newRemote(t, src)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			rng := numbered(uint64(i))
			for range 200 {
				off := src.offset(rng)
				row, err := x.Seek(t.Context(), off)
				if err != nil {
					t.Error(err)
					return
				}
				c, err := x.Row(t.Context(), row)
				if err == nil {
					err = src.check(row, c.Start, int64(c.Size), c.ID, off)
				}
				if err != nil {
					t.Error(err)
				}
				x.Ready(off, 1_000_000)
			}
		})
	}
	for range 2 {
		all.Go(func() {
			if whole, err := x.Fill(t.Context()); err != nil || whole.Size() != src.total() {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Each look at an index that is not all here, and at one that is.
func BenchmarkRemoteSeek(b *testing.B) {
	src := newTable(1<<20, dataSize)
	for _, name := range []string{"some is here", "all is here"} {
		x := newRemote(b, src)
		offs := make([]int64, 1000)
		rng := numbered(6)
		for i := range offs {
			offs[i] = src.offset(rng)
			if _, err := x.Seek(b.Context(), offs[i]); err != nil {
				b.Fatal(err)
			}
		}
		if name == "all is here" {
			if _, err := x.Fill(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		slices.Sort(offs)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := x.Seek(b.Context(), offs[i*37%1000]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleRemote() {
	src := newTable(1<<20, func(int) int64 { return 65536 }) // a file of 42 MB, somewhere
	x, err := index.NewRemote(context.Background(), src)
	if err != nil {
		fmt.Println(err)
		return
	}
	row, err := x.Seek(context.Background(), 40<<30)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := x.Row(context.Background(), row)
	fmt.Println("byte 40 G is in chunk", row, "at", c.Start, err)
	fmt.Println(src.reads.Load(), "reads")
	// Output:
	// byte 40 G is in chunk 655360 at 42949672960 <nil>
	// 3 reads
}
