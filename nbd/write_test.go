package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/nbd"
)

// A slate is an export in memory that can be written to. It takes note of what
// it is told to do.
type slate struct {
	mu    sync.Mutex // guards what follows
	data  []byte
	calls []string
	fail  error // of all that writes

	before func(call string) // nil: nothing is done first
}

func (s *slate) do(call string, f func()) error {
	if s.before != nil {
		s.before(call)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	if s.fail == nil {
		f()
	}
	return s.fail
}

func (s *slate) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copy(p, s.data[off:]), nil
}

func (s *slate) WriteAt(_ context.Context, p []byte, off int64) (n int, err error) {
	err = s.do(fmt.Sprintf("write %d %d", off, len(p)), func() { n = copy(s.data[off:], p) })
	return n, err
}

func (s *slate) Zero(_ context.Context, off, n int64, reserve bool) error {
	return s.do(fmt.Sprintf("zero %d %d %t", off, n, reserve), func() { clear(s.data[off : off+n]) })
}

func (s *slate) Discard(_ context.Context, off, n int64) error {
	return s.do(fmt.Sprintf("discard %d %d", off, n), func() {})
}

func (s *slate) Flush(context.Context) error { return s.do("flush", func() {}) }

// said returns what it was told since it was asked last.
func (s *slate) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.calls = nil }()
	return strings.Join(s.calls, ", ")
}

const (
	flagFUA      = 1 << 0
	flagNoHole   = 1 << 1
	flagFastZero = 1 << 4

	enospc = 28
)

// answer takes the reply to what is no read and returns its error.
func (c *client) answer(cookie uint64) uint32 {
	c.Helper()
	magic := c.uint32()
	if c.structured && magic == 0x668e33ef { // errors are chunks
		k := chunk{flags: c.uint16(), kind: c.uint16(), cookie: c.uint64()}
		k.data = c.bytes(int(c.uint32()))
		if k.flags != 1 || k.kind != 1<<15|1 || k.cookie != cookie {
			c.Fatalf("reply %+v", k)
		}
		return binary.BigEndian.Uint32(k.data)
	}
	if magic != 0x67446698 {
		c.Fatalf("reply magic %#x", magic)
	}
	code := c.uint32()
	if got := c.uint64(); got != cookie {
		c.Fatalf("reply to %#x, want %#x", got, cookie)
	}
	return code
}

func TestWriteCommands(t *testing.T) {
	const size = mib
	tests := []struct {
		name  string
		flags uint16
		kind  uint16
		off   uint64
		n     uint32
		want  uint32
		calls string
	}{
		{"write", 0, cmdWrite, 7, 70000, 0, "write 7 70000"},
		{"write all", 0, cmdWrite, 0, size, 0, "write 0 1048576"},
		{"write through", flagFUA, cmdWrite, 4096, 512, 0, "write 4096 512, flush"},
		{"write nothing", 0, cmdWrite, 5, 0, 0, ""},
		{"write nothing through", flagFUA, cmdWrite, 5, 0, 0, "flush"},
		{"write past the end", 0, cmdWrite, size - 10, 11, enospc, ""},
		{"write far behind the end", 0, cmdWrite, 1<<64 - 1, 4096, enospc, ""},
		{"write with a flag of another command", flagNoHole, cmdWrite, 0, 4096, einval, ""},
		{"zeros", 0, cmdWriteZeroes, 100, 200, 0, "zero 100 200 false"},
		{"zeros with room", flagNoHole, cmdWriteZeroes, 100, 200, 0, "zero 100 200 true"},
		{"zeros through", flagNoHole | flagFUA, cmdWriteZeroes, 100, 200, 0, "zero 100 200 true, flush"},
		{"fast zeros, which are not offered", flagFastZero, cmdWriteZeroes, 0, 4096, einval, ""},
		{"zeros past the end", 0, cmdWriteZeroes, 1, size, enospc, ""},
		{"trim", 0, cmdTrim, 4096, 8192, 0, "discard 4096 8192"},
		{"trim through", flagFUA, cmdTrim, 4096, 8192, 0, "discard 4096 8192, flush"},
		{"trim nothing", 0, cmdTrim, size, 0, 0, ""},
		{"trim past the end", 0, cmdTrim, 1, 1<<32 - 1, einval, ""},
		{"flush", 0, cmdFlush, 0, 0, 0, "flush"},
		{"cache, which is not offered", 0, cmdCache, 0, 4096, einval, ""},
	}
	for _, structured := range []bool{false, true} {
		s := &slate{data: patterned(0, size)}
		want := patterned(0, size)
		c := open(t, serve(t, nbd.Options{}, nbd.Export{Size: size, Reader: s}), "", structured)
		for i, tt := range tests {
			t.Run(fmt.Sprintf("%s/structured=%t", tt.name, structured), func(t *testing.T) {
				c.TB = t
				c.request(tt.flags, tt.kind, uint64(i), tt.off, tt.n)
				if tt.kind == cmdWrite {
					c.send(bytes.Repeat([]byte{byte(i + 1)}, int(tt.n)))
				}
				if got := c.answer(uint64(i)); got != tt.want {
					t.Errorf("error %d, want %d", got, tt.want)
				}
				if got := s.said(); got != tt.calls {
					t.Errorf("did %q, want %q", got, tt.calls)
				}
				if tt.want == 0 && tt.kind == cmdWrite {
					copy(want[tt.off:], bytes.Repeat([]byte{byte(i + 1)}, int(tt.n)))
				}
				if tt.want == 0 && tt.kind == cmdWriteZeroes {
					clear(want[tt.off:][:tt.n])
				}
			})
		}
		c.TB = t
		if got, code := c.read(0, size); code != 0 || !bytes.Equal(got, want) {
			t.Errorf("error %d, or other bytes than were written", code)
		}
		c.request(flagFUA, cmdRead, 1, 0, 1) // it may be set, and means nothing
		if structured {
			if k := c.chunk(); k.kind != 1 {
				t.Errorf("read with FUA: %+v", k)
			}
		} else if _, code, _ := c.simple(1); code != 0 {
			t.Errorf("read with FUA: error %d", code)
		}
		if got := s.said(); got != "" {
			t.Errorf("read with FUA did %q", got)
		}
	}
}

func TestWritableFlags(t *testing.T) {
	socket := serve(t, nbd.Options{}, nbd.Export{Name: "w", Size: mib, Reader: &slate{data: make([]byte, mib)}}, nbd.Export{Name: "r", Size: mib, Reader: patternReader{}})
	for name, want := range map[string]uint16{"w": 0x16d, "r": 0x103} {
		c := greeted(t, socket, 3)
		c.option(optExportName, []byte(name))
		if c.uint64(); true {
			if got := c.uint16(); got != want {
				t.Errorf("%s: flags %#x, want %#x", name, got, want)
			}
		}
	}
}

// A write that fails is the error of that request, and one line in the log.
func TestWriteErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want uint32
	}{
		{fmt.Errorf("disk: %w", syscall.ENOSPC), enospc},
		{syscall.EDQUOT, enospc},
		{errors.New("broken"), eio},
	} {
		for _, structured := range []bool{false, true} {
			var log lockedBuffer
			s := &slate{data: patterned(0, mib), fail: tt.err}
			c := open(t, serve(t, nbd.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, nbd.Export{Size: mib, Reader: s}), "", structured)
			for i, kind := range []uint16{cmdWrite, cmdWriteZeroes, cmdTrim, cmdFlush} {
				n := 4096
				if kind == cmdFlush {
					n = 0
				}
				c.request(flagFUA, kind, uint64(i), 0, uint32(n))
				if kind == cmdWrite {
					c.send(make([]byte, n))
				}
				if got := c.answer(uint64(i)); got != tt.want {
					t.Errorf("%v: command %d: error %d, want %d", tt.err, kind, got, tt.want)
				}
			}
			if got := s.said(); got != "write 0 4096, zero 0 4096 false, discard 0 4096, flush" {
				t.Errorf("did %s", got) // above all no flush of what has failed
			}
			c.wantRead(0, 4096)
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "write failed") {
				t.Errorf("log: %s", got)
			}
		}
	}
}

// shortWriter takes less than it is given and says nothing.
type shortWriter struct{ *slate }

func (s shortWriter) WriteAt(_ context.Context, p []byte, _ int64) (int, error) {
	return len(p) - 1, nil
}

func TestShortWrite(t *testing.T) {
	c := open(t, serve(t, nbd.Options{}, nbd.Export{Size: mib, Reader: shortWriter{&slate{}}}), "", false)
	c.request(0, cmdWrite, 1, 0, 4096)
	c.send(make([]byte, 4096))
	if got := c.answer(1); got != eio {
		t.Errorf("error %d", got)
	}
}

// What waits for the disk, or turns out to be slow, keeps no other request of
// the connection from being done.
func TestSlowWritesHoldUpNobody(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags uint16
		kind  uint16
		n     uint32
	}{
		{"flush", 0, cmdFlush, 0},
		{"trim", 0, cmdTrim, 4096},
		{"zeros", 0, cmdWriteZeroes, 4096},
		{"write through", flagFUA, cmdWrite, 4096},
		{"write", 0, cmdWrite, 4096},
		{"large write", 0, cmdWrite, mib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gate, started := make(chan struct{}), make(chan struct{}, 1)
			s := &slate{data: patterned(0, 2*mib)}
			var first atomic.Bool
			s.before = func(string) {
				if first.CompareAndSwap(false, true) {
					started <- struct{}{}
					<-gate
				}
			}
			c := open(t, serve(t, nbd.Options{}, nbd.Export{Size: 2 * mib, Reader: s}), "", false)
			c.request(tt.flags, tt.kind, 1, 0, tt.n)
			if tt.kind == cmdWrite {
				c.send(make([]byte, tt.n))
			}
			<-started
			for range 10 {
				c.wantRead(mib, 4096)
				c.request(0, cmdWrite, 2, mib+4096, 512)
				c.send(make([]byte, 512))
				if code := c.answer(2); code != 0 {
					t.Fatalf("error %d", code)
				}
			}
			close(gate)
			if code := c.answer(1); code != 0 {
				t.Errorf("error %d", code)
			}
		})
	}
}

// Many connections write what only they read, all at once, and each finds its
// bytes.
func TestManyWriters(t *testing.T) {
	const clients, share = 16, 256 << 10
	w := &slate{data: make([]byte, clients*share)}
	socket := serve(t, nbd.Options{Memory: 32 * mib}, nbd.Export{Size: clients * share, Reader: w})
	var all sync.WaitGroup
	for i := range clients {
		c := open(t, socket, "", i%2 == 0)
		all.Go(func() { c.scribble(rand.New(rand.NewPCG(2, uint64(i))), int64(i)*share, share) })
	}
	all.Wait()
}

// scribble writes and reads its n bytes at off, several requests at a time.
func (c *client) scribble(rnd *rand.Rand, off int64, n int) {
	mine := make([]byte, n)
	const slots = 8 // parts that do not overlap
	for range 20 {
		var batch []byte
		for i := range slots {
			at, size := i*n/slots+rnd.IntN(1000), 1+rnd.IntN(n/slots-1000)
			p := mine[at : at+size]
			for k := range p {
				p[k] = byte(rnd.Uint32())
			}
			batch = append(batch, requestBytes(uint16(rnd.IntN(2)), cmdWrite, uint64(i), uint64(off)+uint64(at), uint32(size))...)
			batch = append(batch, p...)
		}
		if _, err := c.Write(batch); err != nil {
			c.Error(err)
			return
		}
		for range slots {
			if _, code, _ := c.simple(0); code != 0 {
				c.Errorf("error %d", code)
				return
			}
		}
		if got, code := c.read(off, n); code != 0 || !bytes.Equal(got, mine) {
			c.Errorf("error %d, or other bytes than were written", code)
			return
		}
	}
}
