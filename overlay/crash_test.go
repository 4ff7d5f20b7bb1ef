package overlay

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// A stamped base has in each sector a number that no write has.
type stamped struct{}

func (stamped) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at := off + int64(n)
		n += copy(p[n:], stamp(baseOf(at / sector))[at%sector:])
	}
	return len(p), nil
}

func baseOf(s int64) uint64 { return 1<<63 | uint64(s) }

// stamp is a sector that is a number over and over; of 0 it is zeros.
func stamp(n uint64) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, n), sector/8)
}

// A deed is what one sector became.
type deed struct {
	begun, done int // times
	number      uint64
}

// A life is what several goroutines did to a disk.
type life struct {
	disk    *Disk
	j       *journal
	deeds   [][]deed // by sectors, each in order
	mu      sync.Mutex
	flushes [][2]int // times of begin and end; guarded by mu
}

// live changes the sectors from first to end.
func (l *life) live(t *testing.T, first, end int, steps int, rng *rand.Rand) {
	ctx := t.Context()
	for range steps {
		n := 1 + rng.IntN(min(40, end-first))
		at := first + rng.IntN(end-first-n+1)
		off, size := int64(at)*sector, int64(n)*sector
		number, begun := rng.Uint64()>>1|1, l.j.note()
		var err error
		switch rng.IntN(6) {
		case 0:
			number, err = 0, l.disk.Zero(ctx, off, size, rng.IntN(2) == 0)
		case 1: // whole blocks only
			per := int(l.disk.header.block / sector)
			at, n = (at+per-1)/per*per, (at+n)/per*per-(at+per-1)/per*per
			number, err = 0, l.disk.Discard(ctx, off, size)
		case 2:
			n = 0
			if err = l.disk.Flush(ctx); err == nil {
				done := l.j.note()
				l.mu.Lock()
				l.flushes = append(l.flushes, [2]int{begun, done})
				l.mu.Unlock()
			}
		default:
			_, err = l.disk.WriteAt(ctx, bytes.Repeat(stamp(number), n), off)
		}
		if err != nil {
			t.Error(err)
			return
		}
		done := l.j.note()
		for s := at; s < at+n; s++ {
			l.deeds[s] = append(l.deeds[s], deed{begun, done, number})
		}
	}
}

// check fails if a sector of the disk is not what was done to it at some time
// between the last that must have survived, and n.
func (l *life) check(t *testing.T, what string, d *Disk, n, survives int) {
	t.Helper()
	all := make([]byte, d.Size())
	if _, err := d.ReadAt(t.Context(), all, 0); err != nil {
		t.Fatal(err)
	}
	for s, deeds := range l.deeds {
		may := []uint64{baseOf(int64(s))}
		for _, one := range deeds {
			if one.done < survives {
				may = may[:0]
			}
			if one.begun < n {
				may = append(may, one.number)
			}
		}
		got := all[s*sector : (s+1)*sector]
		if !slices.ContainsFunc(may, func(number uint64) bool { return bytes.Equal(got, stamp(number)) }) {
			t.Fatalf("%s, behind line %d: sector %d begins with %x; may be %x", what, n, s, got[:16], may)
		}
	}
}

// flushed is when the last Flush began that had returned at n.
func (l *life) flushed(n int) (begun int) {
	for _, f := range l.flushes {
		if f[1] < n {
			begun = max(begun, f[0])
		}
	}
	return begun
}

// Wherever a process is killed, everything is there that had returned. Wherever
// the power is cut, everything is that had returned before the last Flush, and
// each sector is what it was then or later; so it is if a process was killed, and
// the next one has flushed.
func TestCrashes(t *testing.T) {
	seeds, cuts := 6, 8
	if long, _ := strconv.ParseBool(os.Getenv("CARAVEL_LONG")); long {
		seeds, cuts = 60, 30
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		opt := Options{Block: minBlock << rng.IntN(5)}
		const sectors = 1024 // half a MiB
		path := put(t, nil)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		l := &life{j: new(journal), deeds: make([][]deed, sectors)}
		var err error
		if l.disk, err = open(path, stamped{}, sectors*sector, opt, bootOf(1), l.j.wrap); err != nil {
			t.Fatal(err)
		}
		begin := make([]byte, l.disk.header.length())
		copy(begin, l.disk.header.encode()) // on the disk before the file has its name
		var all sync.WaitGroup
		for i := range 4 {
			mine := rand.New(rand.NewPCG(rng.Uint64(), 0))
			all.Go(func() { l.live(t, i*sectors/4, (i+1)*sectors/4, 25, mine) })
		}
		all.Wait()
		if err := l.disk.file.Close(); err != nil || t.Failed() {
			t.Fatal(err)
		}
		for range cuts / 2 {
			l.crash(t, rng.IntN(len(l.j.lines)+1), begin, opt, rng)
		}
		var syncs []int
		for i, line := range l.j.lines {
			if line.known > 0 {
				syncs = append(syncs, i)
			}
		}
		for range cuts / 2 { // right before something is on the disk
			l.crash(t, syncs[rng.IntN(len(syncs))], begin, opt, rng)
		}
		l.crash(t, len(l.j.lines), begin, opt, rng)
	}
}

// crash opens what different ends leave behind the first n lines.
func (l *life) crash(t *testing.T, n int, begin []byte, opt Options, rng *rand.Rand) {
	t.Helper()
	size := int64(len(l.deeds)) * sector
	for what, f := range map[string]fate{"power cut": lucky(rng), "nothing more than flushed": unlucky, "maps first": mapsFirst(l.disk.header)} {
		d, err := open(put(t, l.j.after(n, begin, f)), stamped{}, size, opt, bootOf(2), plain)
		if err != nil {
			t.Fatal(err)
		}
		l.check(t, what, d, n, l.flushed(n))
		d.file.Close()
	}
	next := &journal{lines: slices.Clone(l.j.lines[:n])}
	path := put(t, l.j.after(n, begin, killed))
	d, err := open(path, stamped{}, size, opt, bootOf(1), next.wrap)
	if err != nil {
		t.Fatal(err)
	}
	if rng.IntN(2) == 0 { // else Flush is the first to look at the map
		l.check(t, "killed", d, n, n)
	}
	if err := d.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.file.Close()
	d, err = open(put(t, next.after(len(next.lines), begin, unlucky)), stamped{}, size, opt, bootOf(3), plain)
	if err != nil {
		t.Fatal(err)
	}
	l.check(t, fmt.Sprintf("killed, flushed by the next, power cut (blocks of %d)", opt.Block), d, n, n)
	d.file.Close()
}
