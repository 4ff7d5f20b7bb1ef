//go:build linux

package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestFlood has 10,000 clients at a time that mean no good. Those who read go on,
// and new ones are served, in memory that does not grow with the crowd; also where
// the server has few descriptors.
func TestFlood(t *testing.T) {
	need(t, "nbdinfo", "prlimit")
	d := newDisk(t, 8<<20)
	for _, tt := range []struct{ clients, descriptors int }{{10_000, 4096}, {1000, 128}} {
		t.Run(fmt.Sprintf("%d descriptors", tt.descriptors), func(t *testing.T) {
			server := start(t, "prlimit", fmt.Sprintf("--nofile=%d", tt.descriptors),
				caravel, "nbd-server", "--listen=127.0.0.1:0", d.index)
			uri := server.expect("Serving: ")
			addr := strings.TrimPrefix(uri, "nbd://")
			r := startReading(t, addr, d.data)

			began := time.Now()
			n := flood(t, addr, tt.clients)
			flooded := time.Since(began)
			began = time.Now()
			must(t, "nbdinfo", uri)
			served := time.Since(began)
			reads, longest := r.ends()
			used := processorTime(t, server)
			time.Sleep(time.Second) // of which it needs nothing
			used = processorTime(t, server) - used
			t.Logf("%d clients in %v, the next one served in %v; %d reads meanwhile, the longest %v; %d MiB, %d sockets, %v of the processor in a second",
				n, flooded, served, reads, longest, server.most()>>20, sockets(server), used)
			if served > 10*time.Second || longest > 5*time.Second {
				t.Errorf("served in %v, a read in %v", served, longest)
			}
			if mib := server.most() >> 20; mib > 256 {
				t.Errorf("it took %d MiB", mib)
			}
			if used > 300*time.Millisecond {
				t.Errorf("%v of the processor in a second with nothing to do", used)
			}
			if lines := strings.Count(server.stderr.String(), "\n"); lines > 50 {
				t.Errorf("%d lines in the log: %.2000s", lines, server.stderr)
			}
			server.ends(syscall.SIGTERM, soon)
		})
	}
}

// A reading is a client that reads the default export here and there.
type reading struct {
	t       *testing.T
	conn    net.Conn
	stop    chan struct{}
	done    chan struct{}
	reads   int           // once it is done
	longest time.Duration // of them
}

func startReading(t *testing.T, addr string, want []byte) *reading {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r := &reading{t: t, conn: c, stop: make(chan struct{}), done: make(chan struct{})}
	// EXPORT_NAME, without zeroes: there is the size and the flags, and no more.
	if _, err := c.Write(append(be.AppendUint32(nil, 3), option(1, nil)...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 18+10)); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		r.read(want)
	}()
	return r
}

func (r *reading) read(want []byte) {
	const size = 4096
	reply := make([]byte, 16+size)
	random := rand.New(rand.NewPCG(1, 2))
	for {
		select {
		case <-r.stop:
			return
		case <-time.After(time.Millisecond):
		}
		off := random.IntN(len(want) - size)
		request := be.AppendUint64(be.AppendUint64([]byte{0x25, 0x60, 0x95, 0x13, 0, 0, 0, 0}, 7), uint64(off))
		began := time.Now()
		_, err := r.conn.Write(be.AppendUint32(request, size))
		if err == nil {
			_, err = io.ReadFull(r.conn, reply)
		}
		if err != nil || be.Uint32(reply[4:]) != 0 || !bytes.Equal(reply[16:], want[off:off+size]) {
			r.t.Errorf("read at %d: %v, error %d, or other bytes", off, err, be.Uint32(reply[4:]))
			return
		}
		r.reads++
		r.longest = max(r.longest, time.Since(began))
	}
}

func (r *reading) ends() (reads int, longest time.Duration) {
	close(r.stop)
	<-r.done
	return r.reads, r.longest
}

// flood connects as many clients, or as many as this process may, that stay to
// the end of the test. One in a hundred has chosen an export.
func flood(t *testing.T, addr string, clients int) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	clients = min(clients, int(limit.Cur)-500)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := next.Add(1); i <= int64(clients); i = next.Add(1) {
				c, err := net.DialTimeout("tcp", addr, time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { c.Close() })
				go misbehave(c, int(i))
			}
		})
	}
	all.Wait()
	return clients
}

// misbehave says the beginning of a negotiation, and no more.
func misbehave(c net.Conn, i int) {
	flags := be.AppendUint32(nil, 3)
	var words []byte
	switch {
	case i%100 == 0: // GO, of the default export
		words = append(flags, option(7, make([]byte, 6))...)
	case i%4 == 1:
		words = flags
	case i%4 == 2: // LIST, and half of the next
		words = append(append(flags, option(3, nil)...), option(7, nil)[:7]...)
	case i%4 == 3: // 4 KiB, of which one byte never comes
		words = append(flags, option(6, make([]byte, 4096))...)
		words = words[:len(words)-1]
	}
	c.Write(words)
	if i%8 < 4 {
		io.Copy(io.Discard, c) // the others take nothing of what they are told
	}
}

var be = binary.BigEndian

// option is one of a negotiation.
func option(id uint32, data []byte) []byte {
	b := be.AppendUint64(nil, 0x49484156454f5054)
	b = be.AppendUint32(b, id)
	return append(be.AppendUint32(b, uint32(len(data))), data...)
}

// sockets counts the open sockets of a process.
func sockets(d *daemon) (n int) {
	for _, to := range d.descriptors() {
		if strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// processorTime is what a process has used.
func processorTime(t *testing.T, d *daemon) time.Duration {
	t.Helper()
	const tick = 10 * time.Millisecond // of USER_HZ
	_, rest, _ := strings.Cut(string(read(t, fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))), ") ")
	var sum time.Duration
	for _, field := range strings.Fields(rest)[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n) * tick
	}
	return sum
}
