package overlay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"caravel/overlay"
)

// childDisk names the file that a child of TestKill writes to, and childSeed what
// it writes.
const (
	childDisk = "CARAVEL_TEST_CHILD_DISK"
	childSeed = "CARAVEL_TEST_CHILD_SEED"
)

const (
	killSize    = 3<<20 + 1000
	killStripes = 6
)

// A step is what the child does next in a stripe.
type step struct {
	off, n int64
	number uint64 // of the bytes; 0: zeros
	how    int
}

// steps yields the same for the child and for who looks at what it has left.
func steps(seed uint64, stripe int64) func() step {
	rng := rand.New(rand.NewPCG(seed, uint64(stripe)))
	from, to := killSize*stripe/killStripes, killSize*(stripe+1)/killStripes
	return func() step {
		n := 1 + rng.Int64N(1<<(3+rng.IntN(14)))
		s := step{n: n, off: from + rng.Int64N(to-from-n), number: rng.Uint64() | 1, how: rng.IntN(8)}
		if s.how == 0 {
			s.number = 0
		}
		return s
	}
}

// bytes is what is to be there.
func (s step) bytes() []byte {
	p := make([]byte, s.n)
	for i := range p {
		p[i] = binary.LittleEndian.AppendUint64(nil, s.number)[i%8]
	}
	return p
}

// killMe is a child of TestKill: it writes until it is killed, and says the stripe
// for each write that has returned.
func killMe(t *testing.T, path string) {
	seed, err := strconv.ParseUint(os.Getenv(childSeed), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	d, err := overlay.Open(path, noise(killSize), killSize, overlay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range int64(killStripes) {
		next := steps(seed, i)
		all.Go(func() {
			for {
				s := next()
				var err error
				switch {
				case s.number == 0:
					err = d.Zero(t.Context(), s.off, s.n, s.off%2 == 0)
				case s.how == 1 && s.n%16 == 0:
					if err = d.Flush(t.Context()); err != nil {
						break
					}
					fallthrough
				default:
					_, err = d.WriteAt(t.Context(), s.bytes(), s.off)
				}
				if err != nil {
					t.Error(err)
					return
				}
				os.Stdout.Write([]byte{'a' + byte(i)})
			}
		})
	}
	all.Wait()
}

// A process is killed at any instant while several of its goroutines write. Each
// write that it has told of is there; the one after that is there, or not, or in
// part. The next process goes on with the same file.
func TestKill(t *testing.T) {
	if path := os.Getenv(childDisk); path != "" {
		killMe(t, path)
	}
	rounds := 8
	if long, _ := strconv.ParseBool(os.Getenv("CARAVEL_LONG")); long {
		rounds = 300
	}
	base, rng := noise(killSize), rand.New(rand.NewPCG(9, 9))
	path := filepath.Join(t.TempDir(), "disk")
	want := bytes.Clone(base.data)
	for round := range rounds {
		done := killAfter(t, path, uint64(round), rng.IntN(600))
		maybe := bytes.Clone(want)
		for i := range int64(killStripes) {
			next := steps(uint64(round), i)
			for range done[i] {
				s := next()
				copy(want[s.off:], s.bytes())
			}
			copy(maybe[killSize*i/killStripes:killSize*(i+1)/killStripes], want[killSize*i/killStripes:])
			s := next()
			copy(maybe[s.off:], s.bytes())
		}
		d, err := overlay.Open(path, base, killSize, overlay.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := content(t, d)
		for i := range got {
			if got[i] != want[i] && got[i] != maybe[i] {
				t.Fatalf("round %d, after %v writes: byte %d is %#x, not %#x or %#x", round, done, i, got[i], want[i], maybe[i])
			}
		}
		want = got
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if round%4 == 3 { // now and then a new one
			want = bytes.Clone(base.data)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// killAfter starts a child and kills it after some writes. It returns how many it
// has told of in each stripe.
func killAfter(t *testing.T, path string, seed uint64, writes int) (done [killStripes]int) {
	child := exec.Command(os.Args[0], "-test.run=^TestKill$")
	child.Env = append(os.Environ(), childDisk+"="+path, fmt.Sprint(childSeed, "=", seed))
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(io.LimitReader(out, int64(writes)))
	_ = child.Process.Signal(syscall.SIGKILL) // it may have failed before
	rest, _ := io.ReadAll(out)
	_ = child.Wait() // killed
	said = append(said, rest...)
	for _, c := range said {
		if c < 'a' || c >= 'a'+killStripes {
			t.Fatalf("the child said %q", said)
		}
		done[c-'a']++
	}
	return done
}
