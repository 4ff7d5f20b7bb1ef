package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/nbd"
)

func TestCommands(t *testing.T) {
	var wanted [2]atomic.Int64
	hinted := struct {
		patternReader
		wantFunc
	}{wantFunc: func(off, n int64) { wanted[0].Store(off); wanted[1].Store(n) }}
	const size = 100*mib + 7
	socket := serve(t, nbd.Options{}, nbd.Export{Name: "plain", Size: size, Reader: patternReader{}}, nbd.Export{Name: "hinted", Size: size, Reader: hinted})
	tests := []struct {
		name   string
		flags  uint16
		kind   uint16
		off    uint64
		n      uint32
		send   int // payload
		simple uint32
		chunk  uint32 // the error with structured replies
	}{
		{"read", 0, cmdRead, 1000, 70000, 0, 0, 0},
		{"read the end", 0, cmdRead, size - 10, 10, 0, 0, 0},
		{"read the maximum", 0, cmdRead, 3, 32 * mib, 0, 0, 0},
		{"read beyond the end", 0, cmdRead, size - 10, 11, 0, einval, einval},
		{"read far beyond the end", 0, cmdRead, 1<<64 - 1, 1<<32 - 1, 0, einval, einval},
		{"read over the maximum", 0, cmdRead, 0, 32*mib + 1, 0, einval, eoverflow},
		{"read in one piece", flagDF, cmdRead, 0, 4096, 0, einval, 0},
		{"read with an unknown flag", 1 << 9, cmdRead, 0, 4096, 0, einval, einval},
		{"write", 0, cmdWrite, 0, 100000, 100000, eperm, eperm},
		{"write nothing", 0, cmdWrite, 0, 0, 0, eperm, eperm},
		{"trim", 0, cmdTrim, 0, 4096, 0, eperm, eperm},
		{"write zeroes", 0, cmdWriteZeroes, 0, 1<<32 - 1, 0, eperm, eperm},
		{"flush", 0, cmdFlush, 0, 0, 0, 0, 0},
		{"block status that was not negotiated", 0, cmdBlockStatus, 0, 4096, 0, einval, einval},
		{"resize", 0, 8, 0, 4096, 0, einval, einval},
		{"unknown", 0xffff, 0xffff, 1 << 60, 4096, 0, einval, einval},
	}
	for _, structured := range []bool{false, true} {
		c := open(t, socket, "plain", structured)
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/structured=%t", tt.name, structured), func(t *testing.T) {
				c.TB = t
				c.request(tt.flags, tt.kind, 99, tt.off, tt.n)
				c.send(make([]byte, tt.send))
				want, got, data := tt.simple, uint32(0), []byte(nil)
				if tt.kind != cmdRead {
					tt.n = 0
				}
				if structured && (tt.kind == cmdRead || tt.chunk != 0) {
					want = tt.chunk
					switch k := c.chunk(); {
					case k.flags != 1 || k.cookie != 99:
						t.Fatalf("chunk %+v", k)
					case k.kind == 1:
						if off := binary.BigEndian.Uint64(k.data); off != tt.off {
							t.Errorf("data at %d", off)
						}
						data = k.data[8:]
					default:
						got = binary.BigEndian.Uint32(k.data)
					}
				} else {
					_, got, data = c.simple(int(tt.n))
				}
				if got != want {
					t.Errorf("error %d, want %d", got, want)
				}
				if got == 0 && !bytes.Equal(data, patterned(int64(tt.off), int(tt.n))) {
					t.Error("other bytes than are there")
				}
			})
		}
		c.TB = t
		c.wantRead(1, 2) // nothing has lost step
	}
	t.Run("cache", func(t *testing.T) {
		c := greeted(t, socket, 3)
		c.option(optExportName, []byte("hinted"))
		if c.uint64(); c.uint16() != 0x503 {
			t.Error("CACHE is not offered")
		}
		c.request(0, cmdCache, 1, 512, mib)
		if _, code, _ := c.simple(0); code != 0 || wanted[0].Load() != 512 || wanted[1].Load() != mib {
			t.Errorf("error %d, hint %d %d", code, wanted[0].Load(), wanted[1].Load())
		}
		c.request(0, cmdCache, 1, size, 1)
		if _, code, _ := c.simple(0); code != einval {
			t.Errorf("beyond the end: error %d", code)
		}
		c = open(t, socket, "plain", false)
		c.request(0, cmdCache, 1, 0, 1)
		if _, code, _ := c.simple(0); code != einval {
			t.Errorf("a reader that takes no hints: error %d", code)
		}
	})
}

type wantFunc func(off, n int64)

func (f wantFunc) Want(off, n int64) { f(off, n) }

func TestEmptyRead(t *testing.T) {
	socket := serve(t, nbd.Options{}, nbd.Export{Size: 10, Reader: patternReader{}})
	c := open(t, socket, "", false)
	c.request(0, cmdRead, 5, 10, 0)
	if cookie, code, _ := c.simple(0); cookie != 5 || code != 0 {
		t.Errorf("cookie %d, error %d", cookie, code)
	}
	c = open(t, socket, "", true)
	c.request(0, cmdRead, 5, 10, 0)
	if k := c.chunk(); k.kind != 0 || k.flags != 1 || len(k.data) != 0 {
		t.Errorf("chunk %+v", k)
	}
}

// An unreadable range is the error of the requests that touch it.
func TestErrorKeepsTheConnection(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	flaky := readerFunc(func(ctx context.Context, p []byte, off int64) (int, error) {
		if n := 5000 - off; bad.Load() && n >= 0 && n < int64(len(p)) {
			patternReader{}.ReadAt(ctx, p[:n], off)
			return int(n), errBad
		}
		return patternReader{}.ReadAt(ctx, p, off)
	})
	var log lockedBuffer
	socket := serve(t, nbd.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, nbd.Export{Name: "d", Size: mib, Reader: flaky})
	for _, structured := range []bool{false, true} {
		bad.Store(true)
		c := open(t, socket, "", structured)
		if _, code := c.read(4000, 4000); code != eio {
			t.Errorf("error %d", code)
		}
		c.wantRead(6000, 4000)
		if structured {
			c.request(0, cmdRead, 3, 4000, 4000)
			k := c.chunk()
			if k.kind != 1<<15|2 || k.flags != 1 || k.cookie != 3 {
				t.Fatalf("chunk %+v", k)
			}
			if off := binary.BigEndian.Uint64(k.data[len(k.data)-8:]); off != 5000 {
				t.Errorf("error at %d, want 5000", off)
			}
		}
		bad.Store(false)
		c.wantRead(4000, 4000)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 1 {
		t.Errorf("%d lines for one fault that three reads met: %q", len(lines), lines)
	}
	for _, want := range []string{"level=WARN", "export=d", "offset=4000", "length=4000", `err="chunk is not there"`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("no %s in %s", want, lines[0])
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A reader that gives less than it should never lets old bytes out.
func TestShortReader(t *testing.T) {
	for _, short := range []error{nil, io.EOF} {
		socket := serve(t, nbd.Options{}, nbd.Export{Size: mib, Reader: readerFunc(func(_ context.Context, p []byte, _ int64) (int, error) {
			return len(p) - 1, short
		})})
		if data, code := open(t, socket, "", false).read(0, 100); code != eio || len(data) > 0 {
			t.Errorf("%v: error %d, %d bytes", short, code, len(data))
		}
	}
	// EOF with the last byte is no error.
	socket := serve(t, nbd.Options{}, nbd.Export{Size: 10, Reader: readerFunc(func(ctx context.Context, p []byte, off int64) (int, error) {
		patternReader{}.ReadAt(ctx, p, off)
		return len(p), io.EOF
	})})
	open(t, socket, "", true).wantRead(0, 10)
}

// gates is a reader that holds each read until its offset's gate opens.
type gates struct {
	started chan int64
	open    [16]chan struct{}
}

func newGates() *gates {
	g := &gates{started: make(chan int64, 100)}
	for i := range g.open {
		g.open[i] = make(chan struct{})
	}
	return g
}

func (g *gates) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off >= int64(len(g.open))*4096 { // behind the gates reads are quick
		return patternReader{}.ReadAt(ctx, p, off)
	}
	g.started <- off
	select {
	case <-g.open[off/4096]:
		return patternReader{}.ReadAt(ctx, p, off)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Requests of one connection run at the same time, and are answered as they
// get ready: here in the opposite order.
func TestRepliesInAnyOrder(t *testing.T) {
	g := newGates()
	c := open(t, serve(t, nbd.Options{}, nbd.Export{Size: 16 * 4096, Reader: g}), "", false)
	for i := range len(g.open) {
		c.request(0, cmdRead, uint64(i), uint64(i)*4096, 4096)
	}
	for range g.open {
		<-g.started
	}
	c.request(0, cmdFlush, 1000, 0, 0) // overtakes them all
	if cookie, _, _ := c.simple(0); cookie != 1000 {
		t.Errorf("reply to %d before the flush", cookie)
	}
	for i := len(g.open) - 1; i >= 0; i-- {
		close(g.open[i])
		cookie, code, data := c.simple(4096)
		if cookie != uint64(i) || code != 0 || !bytes.Equal(data, patterned(int64(i)*4096, 4096)) {
			t.Fatalf("request %d: reply to %d, error %d", i, cookie, code)
		}
	}
}

// With slow requests among quick ones the lead changes hands again and again,
// and a slow one ends while the next one goes on: the stream stays whole.
func TestSlowAmongQuick(t *testing.T) {
	g := newGates()
	c := open(t, serve(t, nbd.Options{}, nbd.Export{Size: mib, Reader: g}), "", false)
	for i := range g.open {
		c.request(0, cmdRead, uint64(i), uint64(i)*4096, 4096)
		<-g.started
		if i > 0 {
			close(g.open[i-1])
			if cookie, code, _ := c.simple(4096); cookie != uint64(i-1) || code != 0 {
				t.Fatalf("cookie %d, error %d", cookie, code)
			}
		}
		for n := range 200 {
			c.wantRead(100_000+int64(n)*4096, 512)
		}
	}
	close(g.open[15])
	c.simple(4096)
}

func TestRequestLimit(t *testing.T) {
	g := newGates()
	c := open(t, serve(t, nbd.Options{Requests: 3}, nbd.Export{Size: 16 * 4096, Reader: g}), "", false)
	for i := range 5 {
		c.request(0, cmdRead, uint64(i), uint64(i)*4096, 4096)
	}
	for range 3 {
		<-g.started
	}
	for i := range 2 { // one more may start for each that is answered
		if len(g.started) > 0 {
			t.Fatal("more than 3 requests at a time")
		}
		close(g.open[i])
		c.simple(4096)
		<-g.started
	}
	for _, gate := range g.open[2:5] {
		close(gate)
		c.simple(4096)
	}
}

// Clients that ask for as much as they may and take nothing keep nobody
// else's small requests from being answered.
func TestSilentClients(t *testing.T) {
	socket := serve(t, nbd.Options{Memory: 64 * mib}, nbd.Export{Size: 64 * mib, Reader: patternReader{}})
	for range 4 {
		c := open(t, socket, "", false)
		for i := range 8 {
			c.request(0, cmdRead, uint64(i), 0, 32*mib)
		}
	}
	c := open(t, socket, "", true)
	for i := range 200 {
		c.wantRead(int64(i)*4096, 64<<10)
	}
}

// A client that takes nothing, and keeps memory that another one waits for,
// is sent away after a while; without that need it may stay.
func TestSilentClientMakesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := nbd.NewServer([]nbd.Export{{Size: 64 * mib, Reader: patternReader{}}}, nbd.Options{Memory: 32 * mib})
		if err != nil {
			t.Fatal(err)
		}
		connect := func() (*client, chan error) {
			near, far := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- s.ServeConn(t.Context(), far) }()
			c := &client{TB: t, Conn: near}
			c.bytes(18)
			c.send(uint32(3))
			c.choose("")
			return c, done
		}
		silent, sent := connect()
		silent.request(0, cmdRead, 1, 0, 32*mib)
		time.Sleep(time.Hour) // of the bubble
		select {
		case err := <-sent:
			t.Fatalf("sent away without need: %v", err)
		default:
		}
		c, done := connect()
		c.wantRead(mib, 32*mib)
		if err := <-sent; err == nil || !strings.Contains(err.Error(), "takes no replies") {
			t.Errorf("silent client: %v", err)
		}
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("client: %v", err)
		}
	})
}

func TestReadIsCancelled(t *testing.T) {
	for _, how := range []string{"close", "bad magic", "close within a request"} {
		t.Run(how, func(t *testing.T) {
			started, cancelled := make(chan struct{}), make(chan error, 1)
			var log lockedBuffer
			socket := serve(t, nbd.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, nbd.Export{Size: mib, Reader: readerFunc(func(ctx context.Context, p []byte, off int64) (int, error) {
				close(started)
				<-ctx.Done()
				cancelled <- ctx.Err()
				return 0, ctx.Err()
			})})
			c := open(t, socket, "", false)
			c.request(0, cmdRead, 1, 0, 4096)
			<-started
			switch how {
			case "bad magic":
				c.send(make([]byte, 28))
			case "close within a request":
				c.send(make([]byte, 27))
				c.Close()
			default:
				c.Close()
			}
			<-cancelled
			if s := log.String(); s != "" {
				t.Errorf("log of a read that nobody waits for: %s", s)
			}
		})
	}
}

func TestTransmissionRejects(t *testing.T) {
	socket := serve(t, nbd.Options{}, nbd.Export{Size: mib, Reader: patternReader{}})
	for _, tt := range []struct {
		name  string
		bytes []byte
	}{
		{"bad magic", make([]byte, 28)},
		{"huge write", requestBytes(0, cmdWrite, 1, 0, 1<<32-1)},
		{"write over the maximum", requestBytes(0, cmdWrite, 1, 0, 32*mib+1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := open(t, socket, "", false)
			c.send(tt.bytes)
			c.wantEnd()
		})
	}
}

func TestDisconnectFinishesRequests(t *testing.T) {
	g := newGates()
	c := open(t, serve(t, nbd.Options{}, nbd.Export{Size: mib, Reader: g}), "", false)
	c.request(0, cmdRead, 1, 0, 4096)
	<-g.started
	c.request(0, cmdDisc, 2, 0, 0)
	c.request(0, cmdFlush, 3, 0, 0) // after its last request a client is not heard
	close(g.open[0])
	if cookie, code, _ := c.simple(4096); cookie != 1 || code != 0 {
		t.Errorf("cookie %d, error %d", cookie, code)
	}
	// Closing with bytes unread may reset the connection; no reply comes.
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes after the last reply", n)
	}
}

func TestSparse(t *testing.T) {
	holes := sparseReader{{mib, mib}, {2 * mib, 4096}, {3*mib + 100, 1000}, {6 * mib, 2 * mib}}
	c := greeted(t, serve(t, nbd.Options{}, nbd.Export{Size: 8 * mib, Reader: holes}), 3)
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	c.option(optSetMeta, metaData("", "base:allocation"))
	c.wantReply(optSetMeta, repMeta)
	c.wantReply(optSetMeta, repAck)
	c.choose("")

	want := make([]byte, 8*mib)
	holes.ReadAt(t.Context(), want, 0)
	for _, r := range [][2]int{{0, 8 * mib}, {mib, mib}, {mib - 1, 2}, {mib + 1, 100}, {2*mib + 4095, 2}, {3 * mib, 4096}, {6*mib - 100, mib}} {
		got := bytes.Repeat([]byte{0xee}, r[1])
		c.request(0, cmdRead, 7, uint64(r[0]), uint32(r[1]))
		for done := false; !done; {
			k := c.chunk()
			off := int(binary.BigEndian.Uint64(k.data)) - r[0]
			switch k.kind {
			case 1:
				copy(got[off:], k.data[8:])
			case 2:
				clear(got[off:][:binary.BigEndian.Uint32(k.data[8:])])
			default:
				t.Fatalf("chunk %+v", k)
			}
			done = k.flags == 1
		}
		if !bytes.Equal(got, want[r[0]:][:len(got)]) {
			t.Errorf("read of %d at %d: other bytes than are there", len(got), r[0])
		}
	}

	// In one piece if the client wants it so.
	c.request(flagDF, cmdRead, 1, mib-10, 20)
	if k := c.chunk(); k.kind != 1 || k.flags != 1 || !bytes.Equal(k.data[8:], want[mib-10:][:20]) {
		t.Errorf("DF: chunk %+v", k)
	}

	status := func(flags uint16, off, n int) []uint32 {
		c.request(flags, cmdBlockStatus, 1, uint64(off), uint32(n))
		k := c.chunk()
		if k.kind != 5 || k.flags != 1 || binary.BigEndian.Uint32(k.data) != 1 {
			t.Fatalf("status: chunk %+v", k)
		}
		var runs []uint32
		for b := k.data[4:]; len(b) > 0; b = b[4:] {
			runs = append(runs, binary.BigEndian.Uint32(b))
		}
		return runs
	}
	for _, tt := range []struct {
		flags  uint16
		off, n int
		want   string
	}{
		{0, 0, 8 * mib, "[1048576 0 1052672 3 1044580 0 1000 3 3144628 0 2097152 3]"},
		{flagReqOne, 0, 8 * mib, "[1048576 0]"},
		{0, mib + 5, 10, "[10 3]"},
		{0, 8*mib - 1, 1, "[1 3]"},
		{0, mib - 1, 2, "[1 0 1 3]"},
	} {
		if got := fmt.Sprint(status(tt.flags, tt.off, tt.n)); got != tt.want {
			t.Errorf("status of %d at %d: got %s, want %s", tt.n, tt.off, got, tt.want)
		}
	}
	c.request(0, cmdBlockStatus, 1, 8*mib-1, 2)
	if k := c.chunk(); k.kind != 1<<15|1 || binary.BigEndian.Uint32(k.data) != einval {
		t.Errorf("beyond the end: chunk %+v", k)
	}
}

// Many clients at once, with everything mixed, each sure of its bytes.
func TestManyClients(t *testing.T) {
	const size = 4 * mib
	mixed := readerFunc(func(ctx context.Context, p []byte, off int64) (int, error) {
		if off%7 == 0 {
			runtime.Gosched()
		}
		if off%100 == 99 {
			return 0, errBad
		}
		return patternReader{}.ReadAt(ctx, p, off)
	})
	socket := serve(t, nbd.Options{Memory: 32 * mib}, nbd.Export{Size: size, Reader: mixed})
	var clients sync.WaitGroup
	for seed := range 64 {
		c := open(t, socket, "", false)
		clients.Go(func() { c.mix(rand.New(rand.NewPCG(1, uint64(seed))), size) })
	}
	clients.Wait()
}

// mix sends batches of mixed requests and checks each reply.
func (c *client) mix(rnd *rand.Rand, size int64) {
	for range 10 {
		type request struct {
			off  int64
			n    int
			code uint32
		}
		sent := make(map[uint64]request)
		var batch []byte
		for len(sent) < 20 {
			r := request{off: rnd.Int64N(size - 300<<10), n: 1 + rnd.IntN(1<<rnd.IntN(18))}
			kind, cookie := uint16(cmdRead), rnd.Uint64()
			switch rnd.IntN(10) {
			case 0:
				kind, r.code = cmdTrim, eperm
			case 1:
				r.off, r.code = size, einval
			default:
				if r.off%100 == 99 {
					r.code = eio
				}
			}
			sent[cookie] = r
			batch = append(batch, requestBytes(0, kind, cookie, uint64(r.off), uint32(r.n))...)
		}
		if _, err := c.Write(batch); err != nil {
			c.Error(err)
			return
		}
		for len(sent) > 0 {
			var h [16]byte
			if _, err := io.ReadFull(c.Conn, h[:]); err != nil {
				c.Error(err)
				return
			}
			cookie := binary.BigEndian.Uint64(h[8:])
			r, ok := sent[cookie]
			if code := binary.BigEndian.Uint32(h[4:]); !ok || code != r.code {
				c.Errorf("cookie %#x: error %d, want %d (known: %t)", cookie, code, r.code, ok)
				return
			}
			delete(sent, cookie)
			if r.code != 0 {
				continue
			}
			data := make([]byte, r.n)
			if _, err := io.ReadFull(c.Conn, data); err != nil || !bytes.Equal(data, patterned(r.off, r.n)) {
				c.Errorf("read of %d at %d: %v, or other bytes", r.n, r.off, err)
				return
			}
		}
	}
}

func TestGracefulStop(t *testing.T) {
	for _, tt := range []struct {
		name  string
		grace time.Duration
		open  bool // the gate, before the time of grace is over
	}{
		{"requests finish", time.Minute, true},
		{"requests are cut off", time.Millisecond, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			g := newGates()
			s, err := nbd.NewServer([]nbd.Export{{Size: mib, Reader: g}}, nbd.Options{Grace: tt.grace})
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Serve(ctx, l) }()

			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			c := &client{TB: t, Conn: nc}
			c.bytes(18)
			c.send(uint32(3))
			c.choose("")
			c.request(0, cmdRead, 8, 0, 4096)
			<-g.started
			silent, err := net.Dial("tcp", l.Addr().String()) // still negotiates
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			cancel()
			if tt.open {
				close(g.open[0])
				if cookie, code, _ := c.simple(4096); cookie != 8 || code != 0 {
					t.Errorf("cookie %d, error %d", cookie, code)
				}
				c.wantEnd()
			}
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
				t.Error("the listener is still open")
			}
			// Goroutines that have done their work may take a moment to be gone.
			for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
				if time.Now().After(deadline) {
					b := make([]byte, 1<<16)
					t.Fatalf("goroutines: %d before, %d after\n%s", before, runtime.NumGoroutine(), b[:runtime.Stack(b, true)])
				}
			}
		})
	}
}

func TestServeListenerFails(t *testing.T) {
	s, err := nbd.NewServer([]nbd.Export{{Size: mib, Reader: patternReader{}}}, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Serve(t.Context(), l); err == nil || !strings.HasPrefix(err.Error(), "nbd: accept on 127.0.0.1:") {
		t.Errorf("got %v", err)
	}
}

func TestConnectionLimit(t *testing.T) {
	socket := serve(t, nbd.Options{Conns: 2}, nbd.Export{Size: mib, Reader: patternReader{}})
	first := open(t, socket, "", false)
	open(t, socket, "", false)
	third := dial(t, socket)
	third.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("third client: %v, want a time-out", err)
	}
	third.SetReadDeadline(time.Time{})
	first.Close()
	third.bytes(18)
}

// Who waits to be served waits for no client that chooses no export, be there ever
// so much time for it; those that have chosen stay.
func TestNegotiationMakesWay(t *testing.T) {
	socket := serve(t, nbd.Options{Conns: 2, Negotiation: time.Hour}, nbd.Export{Size: mib, Reader: patternReader{}})
	first := open(t, socket, "", false)
	second := greeted(t, socket, 3)
	open(t, socket, "", false).wantRead(0, 4096)
	second.wantEnd()
	first.wantRead(0, 4096)
}

// The limits are the server's, however many listeners it serves.
func TestTwoListeners(t *testing.T) {
	s, err := nbd.NewServer([]nbd.Export{{Size: mib, Reader: patternReader{}}}, nbd.Options{Conns: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	var sockets [2]string
	for i := range sockets {
		sockets[i] = t.TempDir() + "/s"
		l, err := net.Listen("unix", sockets[i])
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- s.Serve(ctx, l) }()
	}
	clients := []*client{open(t, sockets[0], "", false), open(t, sockets[1], "", false)}
	for _, c := range clients {
		c.wantRead(0, 4096)
	}
	third := dial(t, sockets[0])
	third.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("third client: %v, want a time-out", err)
	}
	third.SetReadDeadline(time.Time{})
	clients[1].Close()
	third.bytes(18)
	cancel()
	for range sockets {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
