package index_test

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
)

// build returns an index of chunks of the given sizes.
func build(t testing.TB, p chunker.Params, sizes ...int) *index.Index {
	t.Helper()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), p)
	for i, size := range sizes {
		if err := b.Append(chunker.ID{byte(i)}, size); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index()
}

func TestBuilderRefuses(t *testing.T) {
	b := index.NewBuilder(feature.Blob(chunker.SHA256), chunker.Params{Min: 10, Avg: 20, Max: 30})
	if err := b.Append(chunker.ID{1}, 5); err != nil { // only the maximum is a limit
		t.Fatal(err)
	}
	for size, want := range map[int]string{
		0:             "index: chunk 1 at 5: 0 bytes, not 1 to 30",
		-1:            "index: chunk 1 at 5: -1 bytes, not 1 to 30",
		31:            "index: chunk 1 at 5: 31 bytes, not 1 to 30",
		math.MaxInt32: "index: chunk 1 at 5: 2147483647 bytes, not 1 to 30",
	} {
		if err := b.Append(chunker.ID{2}, size); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if x := b.Index(); x.Len() != 1 || x.Size() != 5 {
		t.Errorf("%d chunks, %d bytes after what was refused", x.Len(), x.Size())
	}
}

// What Index returned stays as it is when the Builder goes on.
func TestIndexIsASnapshot(t *testing.T) {
	b := index.NewBuilder(feature.Blob(chunker.SHA256), chunker.DefaultParams())
	var snapshots []*index.Index
	for i := range 100 {
		snapshots = append(snapshots, b.Index())
		if err := b.Append(chunker.ID{byte(i)}, i+1); err != nil {
			t.Fatal(err)
		}
	}
	for n, x := range snapshots {
		if x.Len() != n || x.Size() != int64(n*(n+1)/2) {
			t.Errorf("snapshot %d: %d chunks, %d bytes", n, x.Len(), x.Size())
		}
		if n > 0 && x.Chunk(n-1) != (index.Chunk{ID: chunker.ID{byte(n - 1)}, Start: int64(n * (n - 1) / 2), Size: n}) {
			t.Errorf("snapshot %d: chunk %+v", n, x.Chunk(n-1))
		}
	}
}

// What Read would refuse is not written.
func TestWriteToRefuses(t *testing.T) {
	blob := feature.Blob(chunker.SHA512_256)
	for _, tt := range []struct {
		flags feature.Flags
		p     chunker.Params
		want  string
	}{
		{blob | 1<<40, chunker.DefaultParams(), "index: flags 0xb000010000000000: unknown bits 0x10000000000"},
		{blob | 3, chunker.DefaultParams(), "index: flags 0xb000000000000003: not normalized, which would be 0xb000000000000002"},
		{blob, chunker.Params{}, "index: chunker: sizes 0:0:0: the minimum is below 1"},
	} {
		var b bytes.Buffer
		n, err := index.NewBuilder(tt.flags, tt.p).Index().WriteTo(&b)
		if err == nil || err.Error() != tt.want || n != 0 || b.Len() != 0 {
			t.Errorf("got %d, %v; want %s", n, err, tt.want)
		}
	}
}

// An index has the digest of its file, whether that was read or will be written.
func TestSum(t *testing.T) {
	for _, name := range files(t) {
		file := load(t, name)
		x, err := index.Read(bytes.NewReader(file), -1)
		if err != nil {
			t.Fatal(err)
		}
		want := sha512.Sum512_256(file)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if got := x.Sum(); got != want {
					t.Errorf("%s: got %x, want %x", name, got, want)
				}
			})
		}
		all.Wait()
	}
	if a, b := build(t, chunker.DefaultParams(), 1, 2), build(t, chunker.DefaultParams(), 1, 3); a.Sum() == b.Sum() {
		t.Error("two indexes have one digest")
	}
}

// full takes room bytes and no more; silently if err is nil.
type full struct {
	room int
	err  error
}

func (f *full) Write(b []byte) (int, error) {
	n := min(len(b), f.room)
	f.room -= n
	if n < len(b) {
		return n, f.err
	}
	return n, nil
}

func TestWriteToPassesErrorsOn(t *testing.T) {
	x := build(t, chunker.DefaultParams(), ones(5000)...)
	whole := 104 + 40*5000
	for _, room := range []int{0, 1, 64, 65520, 65521, whole - 40, whole - 1} {
		n, err := x.WriteTo(&full{room, errors.ErrUnsupported})
		if n != int64(room) || err != errors.ErrUnsupported {
			t.Errorf("room for %d: got %d, %v", room, n, err)
		}
		n, err = x.WriteTo(&full{room, nil})
		if n != int64(room) || err != io.ErrShortWrite {
			t.Errorf("room for %d: got %d, %v", room, n, err)
		}
	}
	if n, err := x.WriteTo(&full{whole, nil}); n != int64(whole) || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

// ones is the sizes of n chunks of one byte.
func ones(n int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = 1
	}
	return sizes
}

// Files of every length around the ends of a block are read as written.
func TestBlockEnds(t *testing.T) {
	for _, n := range []int{0, 1, 1635, 1636, 1637, 1638, 1639, 3273, 3274, 3275, 3276} {
		x := build(t, chunker.DefaultParams(), ones(n)...)
		file := written(t, x)
		if len(file) != 104+40*n {
			t.Errorf("%d rows: %d bytes", n, len(file))
		}
		got, err := index.Read(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(written(t, got), file) {
			t.Errorf("%d rows: written back, it differs", n)
		}
	}
}

// TestFind compares Find and Range with going through all chunks.
func TestFind(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 40 {
		var sizes []int
		for range n {
			sizes = append(sizes, 1+rng.IntN(20))
		}
		x := build(t, chunker.Params{Min: 1, Avg: 10, Max: 20}, sizes...)
		for off := range x.Size() + 3 {
			want := 0
			for want < n && x.Chunk(want).End() <= off {
				want++
			}
			if got := x.Find(off); got != want {
				t.Fatalf("%v: Find(%d): got %d, want %d", sizes, off, got, want)
			}
			for _, count := range []int64{-1, 0, 1, 2, 25, x.Size() - off, x.Size(), math.MaxInt64} {
				last := want
				for count > 0 && last < n && x.Chunk(last).Start-off < count {
					last++
				}
				if first, got := x.Range(off, count); first != want || got != last {
					t.Fatalf("%v: Range(%d, %d): got %d, %d, want %d, %d", sizes, off, count, first, got, want, last)
				}
			}
		}
	}
}

func Example() {
	p := chunker.Params{Min: 64, Avg: 256, Max: 1024}
	digest := chunker.SHA512_256
	b := index.NewBuilder(feature.Blob(digest), p)
	for chunk, err := range chunker.Chunks(bytes.NewReader(make([]byte, 2500)), p) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if err := b.Append(digest.Sum(chunk), len(chunk)); err != nil {
			fmt.Println(err)
			return
		}
	}
	var file bytes.Buffer
	if _, err := b.Index().WriteTo(&file); err != nil {
		fmt.Println(err)
		return
	}

	x, err := index.Read(&file, int64(file.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(x.Len(), "chunks,", x.Size(), "bytes")
	c := x.Chunk(x.Find(2100))
	fmt.Println("byte 2100 is in the chunk of", c.Size, "bytes at", c.Start)
	// Output:
	// 3 chunks, 2500 bytes
	// byte 2100 is in the chunk of 452 bytes at 2048
}

// sized returns an index of n chunks with the sizes that random data give.
func sized(b *testing.B, n int) *index.Index {
	b.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	p := chunker.DefaultParams()
	x := index.NewBuilder(feature.Blob(chunker.SHA512_256), p)
	for i := range n {
		size := min(p.Min+int(rng.ExpFloat64()*49535), p.Max)
		if err := x.Append(chunker.ID{byte(i), byte(i >> 8)}, size); err != nil {
			b.Fatal(err)
		}
	}
	return x.Index()
}

func BenchmarkRead(b *testing.B) {
	const rows = 1 << 20
	x := sized(b, rows)
	file := written(b, x)
	for _, bb := range []struct {
		name string
		size int64
	}{{"size known", int64(len(file))}, {"size unknown", -1}} {
		b.Run("the index of a 64 GiB image, "+bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			var read *index.Index
			var bytesUsed uint64
			for b.Loop() {
				bytesUsed = allocated(func() {
					var err error
					if read, err = index.Read(bytes.NewReader(file), bb.size); err != nil {
						b.Fatal(err)
					}
				})
			}
			if read.Len() != rows || read.Size() != x.Size() {
				b.Fatalf("%d chunks, %d bytes", read.Len(), read.Size())
			}
			b.ReportMetric(float64(bytesUsed)/rows, "B/row")
		})
	}
}

func BenchmarkWriteTo(b *testing.B) {
	x := sized(b, 1<<20)
	b.SetBytes(104 + 40<<20)
	for b.Loop() {
		if n, err := x.WriteTo(io.Discard); n != 104+40<<20 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	for _, bb := range []struct {
		name string
		rows int
	}{{"the index of a 1 TiB image", 16 << 20}, {"the index of a 4 GiB image", 64 << 10}} {
		x := sized(b, bb.rows)
		b.Run(bb.name, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(5, 6))
			for b.Loop() {
				off := rng.Int64N(x.Size())
				if c := x.Chunk(x.Find(off)); off < c.Start || off >= c.End() {
					b.Fatalf("chunk %+v does not hold offset %d", c, off)
				}
			}
		})
	}
}
