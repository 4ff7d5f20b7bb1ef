package overlay_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"caravel/overlay"
)

// A stripe is a part of a disk that one goroutine works on, and what has to be
// there.
type stripe struct {
	disk  *overlay.Disk
	block int64
	off   int64
	want  []byte // a part of the whole disk's
	rng   *rand.Rand
}

// step does something somewhere in the stripe. What is discarded may lie in
// several blocks; only whole ones become zeros.
func (s *stripe) step(ctx context.Context) error {
	size := int64(len(s.want))
	n := 1 + s.rng.Int64N(min(size, 1<<(2+s.rng.IntN(16))))
	at := s.rng.Int64N(size - n + 1)
	off := s.off + at
	switch s.rng.IntN(8) {
	case 0, 1, 2:
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(s.rng.Uint32())
		}
		copy(s.want[at:], p)
		_, err := s.disk.WriteAt(ctx, p, off)
		return err
	case 3:
		clear(s.want[at : at+n])
		return s.disk.Zero(ctx, off, n, s.rng.IntN(2) == 0)
	case 4:
		from, to := (off+s.block-1)/s.block*s.block, (off+n)/s.block*s.block
		if off+n == s.disk.Size() {
			to = off + n
		}
		if from < to {
			clear(s.want[from-s.off : to-s.off])
		}
		return s.disk.Discard(ctx, off, n)
	case 5:
		if s.rng.IntN(4) == 0 {
			return s.disk.Flush(ctx)
		}
		return s.holes(off, n)
	}
	p := make([]byte, n)
	if _, err := s.disk.ReadAt(ctx, p, off); err != nil {
		return err
	}
	if string(p) != string(s.want[at:at+n]) {
		return fmt.Errorf("wrong bytes in the %d at %d", n, off)
	}
	return nil
}

// holes fails if what is said to be zeros is none, or not in order.
func (s *stripe) holes(off, n int64) error {
	last := off
	for at, size := range s.disk.Holes(off, n) {
		if at < last || size <= 0 || at+size > off+n {
			return fmt.Errorf("a hole of %d bytes at %d, within %d at %d, behind %d", size, at, n, off, last)
		}
		last = at + size
		for _, b := range s.want[at-s.off : last-s.off] {
			if b != 0 {
				return fmt.Errorf("the hole of %d bytes at %d has bytes", size, at)
			}
		}
	}
	return nil
}

// Whatever is done by many at the same time, in blocks that they share, the disk
// is what an array of bytes would be; also when it was closed in between.
func TestModel(t *testing.T) {
	seeds := 12
	if long, _ := strconv.ParseBool(os.Getenv("CARAVEL_LONG")); long {
		seeds = 500
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			base := newKnowing(100_000+rng.IntN(400_000), 1+rng.Int64N(30_000))
			size := int64(len(base.data))
			opt := overlay.Options{Block: 4096 << rng.IntN(5), Size: size + rng.Int64N(2)*rng.Int64N(200_000)}
			want := make([]byte, opt.Size)
			copy(want, base.data)
			path := temp(t)
			d := open(t, path, base, size, opt)
			for range 3 {
				work(t, d, opt.Block, want, rng)
				same(t, "the disk", content(t, d), want)
				d = reopen(t, d, path, base, size, opt)
				same(t, "the disk opened again", content(t, d), want)
			}
		})
	}
}

// work has eight goroutines change a part of the disk each.
func work(t *testing.T, d *overlay.Disk, block int64, want []byte, rng *rand.Rand) {
	var all sync.WaitGroup
	const parts = 8
	for i := range parts {
		from, to := len(want)*i/parts, len(want)*(i+1)/parts
		s := &stripe{disk: d, block: block, off: int64(from), want: want[from:to], rng: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		all.Go(func() {
			for range 60 {
				if err := s.step(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// A reader of a block that is about to become present sees the base's bytes or
// what is written, never anything else, and not the base's once it has seen the
// other.
func TestReadersOfWhatIsWritten(t *testing.T) {
	const block, blocks = 4096, 64
	base := noise(block * blocks)
	for i := range base.data {
		base.data[i] = 0xbb
	}
	d := open(t, temp(t), base, int64(len(base.data)), overlay.Options{})
	var all sync.WaitGroup
	for i := range int64(blocks) {
		done := make(chan struct{})
		for _, half := range []int64{0, block / 2} { // both have to fill the block
			all.Go(func() {
				p := make([]byte, block/2)
				for i := range p {
					p[i] = 0x11
				}
				if _, err := d.WriteAt(t.Context(), p, i*block+half); err != nil {
					t.Error(err)
				}
				if half == 0 {
					close(done)
				}
			})
		}
		all.Go(func() {
			for seen, written := false, false; !seen; {
				select {
				case <-done:
					written = true
				default:
				}
				p := make([]byte, block)
				if _, err := d.ReadAt(t.Context(), p, i*block); err != nil {
					t.Error(err)
					return
				}
				if written && p[0] != 0x11 {
					t.Errorf("block %d: %#x after the write had returned", i, p[0])
					return
				}
				for j, b := range p {
					if b != 0xbb && b != 0x11 {
						t.Errorf("block %d: byte %d is %#x", i, j, b)
						return
					}
				}
				seen = written
			}
		})
	}
	all.Wait()
}
