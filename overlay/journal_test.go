package overlay

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

const sector = 512

// A journal notes what is done to a file, and what of it has been brought to the
// disk. The number of its lines is the time.
type journal struct {
	mu    sync.Mutex
	lines []line
}

// A line is what n bytes at off became: p, or zeros. With n of 0 it is the end of
// a sync that has all lines before the line known, or only a time.
type line struct {
	off, n int64
	p      []byte
	known  int
}

type journaled struct {
	medium
	to *journal
}

func (j *journal) wrap(m medium) medium { return journaled{m, j} }

// add appends a line and returns the time at which it stands.
func (j *journal) add(l line) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, l)
	return len(j.lines) - 1
}

// note is a time of its own.
func (j *journal) note() int { return j.add(line{}) }

func (s journaled) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.medium.WriteAt(p, off)
	if err == nil {
		s.to.add(line{off: off, n: int64(n), p: bytes.Clone(p)})
	}
	return n, err
}

func (s journaled) zero(off, n int64, reserve bool) error {
	err := s.medium.zero(off, n, reserve)
	if err == nil {
		s.to.add(line{off: off, n: n})
	}
	return err
}

// sync does not bring the file to the disk: the test makes up what is there.
func (s journaled) sync() error {
	known := s.to.note()
	s.to.add(line{known: known})
	return nil
}

// A fate says how many of the first n lines a sector at off has, if the first safe
// ones were brought to the disk.
type fate func(off int64, n, safe int) int

// What a killed process leaves is all that it has done.
func killed(_ int64, n, _ int) int { return n }

// What a power cut leaves of a sector is what was brought to the disk, or some
// later state of it.
func unlucky(_ int64, _, safe int) int { return safe }

func lucky(rng *rand.Rand) fate {
	return func(_ int64, n, safe int) int { return safe + rng.IntN(n-safe+1) }
}

// mapsFirst is the worst that the kernel can do.
func mapsFirst(h header) fate {
	return func(off int64, n, safe int) int {
		if off < h.dataAt() {
			return n
		}
		return safe
	}
}

// after is the file behind the first n lines, if it began as begin.
func (j *journal) after(n int, begin []byte, what fate) []byte {
	b := bytes.Clone(begin)
	safe := 0
	for _, l := range j.lines[:n] {
		safe = max(safe, l.known)
	}
	until := make([]int, len(b)/sector+1)
	for i := range until {
		until[i] = what(int64(i)*sector, n, safe)
	}
	for i, l := range j.lines[:n] {
		for at := l.off; at < l.off+l.n; {
			end := min((at/sector+1)*sector, l.off+l.n)
			switch {
			case i >= until[at/sector]:
			case l.p == nil:
				clear(b[at:end])
			default:
				copy(b[at:end], l.p[at-l.off:])
			}
			at = end
		}
	}
	return b
}

// bootOf is the ID of a kernel.
func bootOf(n byte) func() ([bootSize]byte, error) {
	return func() ([bootSize]byte, error) { return [bootSize]byte{n, 1}, nil }
}

// put makes a file that has the bytes.
func put(t *testing.T, b []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func plain(m medium) medium { return m }
