package prefetch_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"caravel/blockcache"
	"caravel/prefetch"
)

// A countedImage is one of chunks of many sizes behind a link of 20 ms and
// 1 Gbit/s. It counts what is asked for and what is read, and has a clock of its
// own: who reads what is not there waits for it.
type countedImage struct {
	ends  []int64               // of the chunks
	there map[int]time.Duration // when the chunks that were asked for arrive
	read  map[int]bool
	now   time.Duration
	free  time.Duration // when the last byte of what was asked for has arrived
}

const linkDelay = 20 * time.Millisecond

// packed is the time that n bytes take on the link, packed to a third.
func packed(n int64) time.Duration { return time.Duration(n/3) * 8 }

// newCountedImage cuts size bytes as casync does by default: 16 KiB and then on,
// 64 KiB on average.
func newCountedImage(size int64, rng *rand.Rand) *countedImage {
	c := &countedImage{there: map[int]time.Duration{}, read: map[int]bool{}}
	for off := int64(0); off < size; {
		off = min(off+min(16<<10+int64(rng.ExpFloat64()*(48<<10)), 256<<10), size)
		c.ends = append(c.ends, off)
	}
	return c
}

func (c *countedImage) find(off int64) int {
	lo, hi := 0, len(c.ends)
	for lo < hi {
		if mid := (lo + hi) / 2; c.ends[mid] <= off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// size of a chunk in bytes.
func (c *countedImage) size(row int) int64 {
	if row == 0 {
		return c.ends[0]
	}
	return c.ends[row] - c.ends[row-1]
}

// ask has a chunk fetched, packed to a third.
func (c *countedImage) ask(row int) {
	if _, ok := c.there[row]; !ok {
		c.free = max(c.free, c.now+linkDelay) + packed(c.size(row))
		c.there[row] = c.free
	}
}

func (c *countedImage) Want(ranges ...blockcache.Range) {
	for _, r := range ranges {
		for row := c.find(r.Off); row <= c.find(r.Off+r.Len-1); row++ {
			c.ask(row)
		}
	}
}

func (c *countedImage) State(off int64) (blockcache.State, int64) {
	row := c.find(off)
	if at, ok := c.there[row]; ok && at <= c.now {
		return blockcache.Resident, c.ends[row]
	}
	return blockcache.Absent, c.ends[row]
}

// fetched and used are bytes of chunks.
func (c *countedImage) fetched() (fetched, used int64) {
	for row := range c.there {
		fetched += c.size(row)
		if c.read[row] {
			used += c.size(row)
		}
	}
	return fetched, used
}

// A countedView is a countedImage up to an offset.
type countedView struct {
	*countedImage
	end int64
}

func (v countedView) Size() int64 { return v.end }

func (v countedView) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	first, last := v.find(off), v.find(off+int64(len(p))-1)
	for row := first; row <= last; row++ {
		v.ask(row)
		v.read[row] = true
	}
	for row := first; row <= last; row++ {
		v.now = max(v.now, v.there[row])
	}
	v.now += time.Duration(len(p)) // who reads takes 1 GB/s
	return len(p), nil
}

type file struct{ off, size int64 }

// layOut puts files of 1 KiB to 1 MiB one after the other, as an archive does;
// there are as many of each power of two.
func layOut(n int, rng *rand.Rand) (files []file, size int64) {
	for range n {
		size += 150 // what the archive says of the file
		f := file{size, int64(math.Exp2(10 + 10*rng.Float64()))}
		size += f.size
		files = append(files, f)
	}
	return files, size
}

// trace is what a build reads, without programs: a quarter of the folders, of
// these most files whole, and of one file in ten the beginning only.
func trace(files []file, rng *rand.Rand) (reads []file) {
	const folder = 12
	for _, at := range rng.Perm(len(files) / folder)[:len(files)/folder/4] {
		for _, f := range files[at*folder : (at+1)*folder] {
			switch rng.IntN(10) {
			case 0: // nobody wants it
			case 1:
				reads = append(reads, file{f.off, f.size / 3})
			default:
				reads = append(reads, f)
			}
		}
	}
	return reads
}

// readFile reads a file from off to stop, or a little more, in the kernel's
// pieces of 128 KiB.
func readFile(t *testing.T, r *prefetch.Reader, off, stop, end int64) {
	t.Helper()
	for p := make([]byte, 128<<10); off < stop; off += int64(len(p)) {
		if _, err := r.ReadAt(t.Context(), p[:min(int64(len(p)), end-off)], off); err != nil {
			t.Fatal(err)
		}
	}
}

// Without a profile little is fetched in vain, of a tree, where each file that
// is opened has a reader, and of a disk, where one reader sees them all. The
// kernel reads both in pieces of 128 KiB.
func TestWasteOfABuild(t *testing.T) {
	files, size := layOut(4000, rand.New(rand.NewPCG(1, 2)))
	reads := trace(files, rand.New(rand.NewPCG(3, 4)))
	end := make(map[int64]int64)
	for _, f := range files {
		end[f.off] = f.off + f.size
	}
	for _, kind := range []string{"tree", "disk", "disk, metered"} {
		img := newCountedImage(size, rand.New(rand.NewPCG(5, 6)))
		opt := prefetch.Options{Group: new(prefetch.Group), Metered: kind == "disk, metered"}
		disk := prefetch.NewReader(countedView{img, size}, img, opt)
		for _, f := range reads {
			r := disk
			if kind == "tree" {
				r = prefetch.NewReader(countedView{img, end[f.off]}, img, opt)
			}
			readFile(t, r, f.off, f.off+f.size, end[f.off])
			if kind == "tree" {
				_ = r.Close() // never fails
			}
		}
		_ = disk.Close() // never fails
		fetched, used := img.fetched()
		if fetched > used*5/4 {
			t.Errorf("%s: %d bytes fetched, %d of them read", kind, fetched, used)
		}
		if st := opt.Group.Stats(); st.Used == 0 || st.Asked < st.Used+st.Left || st.Asked > st.Used+st.Left+st.Asked/100 {
			t.Errorf("%s: %+v", kind, st) // what is read out of order counts as neither
		}
		t.Logf("%s: %d MB, %d MB of it read, %v", kind, fetched>>20, used>>20, img.now)
	}
}

// A file takes the link's time and a few round trips more, the fewer the shorter
// it is.
func TestFileTakesFewRoundTrips(t *testing.T) {
	for _, tt := range []struct {
		size  int64
		trips int64
	}{{1 << 10, 0}, {256 << 10, 1}, {1 << 20, 4}, {26 << 20, 7}, {256 << 20, 7}} {
		img := newCountedImage(tt.size, rand.New(rand.NewPCG(5, 6)))
		r := prefetch.NewReader(countedView{img, tt.size}, img, prefetch.Options{})
		readFile(t, r, 0, tt.size, tt.size)
		link := linkDelay + packed(tt.size)
		if most := link + time.Duration(tt.trips)*linkDelay + linkDelay/10; img.now > most {
			t.Errorf("%d KiB: took %v, more than %v", tt.size>>10, img.now, most)
		}
	}
}

// Reading backwards, or a piece here and there at equal distances, is as good.
func TestStridesTakeFewRoundTrips(t *testing.T) {
	const size = 64 << 20
	for _, tt := range []struct {
		name      string
		off, step int64
		length    int
		trips     int64
	}{
		{"backwards", size - 128<<10, -128 << 10, 128 << 10, 9},
		{"backwards, small pieces", size - 4096, -4096, 4096, 9},
		{"every MiB", 0, 1 << 20, 4096, 8},
		{"every MiB, backwards", size - 4096, -1 << 20, 4096, 8},
	} {
		img := newCountedImage(size, rand.New(rand.NewPCG(5, 6)))
		r, p := prefetch.NewReader(countedView{img, size}, img, prefetch.Options{}), make([]byte, tt.length)
		for off := tt.off; off >= 0 && off < size; off += tt.step {
			if _, err := r.ReadAt(t.Context(), p, off); err != nil {
				t.Fatal(err)
			}
		}
		fetched, used := img.fetched()
		link := linkDelay + packed(fetched)
		if most := link + time.Duration(tt.trips)*linkDelay; img.now > most || fetched > used*5/4 {
			t.Errorf("%s: took %v, more than %v, for %d bytes, of them read %d", tt.name, img.now, most, fetched, used)
		}
	}
}
