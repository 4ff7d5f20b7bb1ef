package relay

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// window is how many bytes of a connection may be on their way in a direction.
const window = 4 << 20

// A link is one connection: two flows between its ends.
type link struct {
	over    chan struct{} // closed when the connection is
	once    sync.Once
	stalled atomic.Bool // nothing will tell the client that the server is gone

	mu     sync.Mutex // guards the ends against meeting late
	client net.Conn
	server net.Conn
}

// meets takes the server's end, unless the connection is over already.
func (l *link) meets(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.over:
		server.Close()
		return false
	default:
	}
	l.server = server
	return true
}

// close ends the connection in good order.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.once.Do(func() { close(l.over) })
	for _, c := range []net.Conn{l.client, l.server} {
		if c != nil {
			c.Close()
		}
	}
}

// kill resets both ends.
func (l *link) kill() {
	l.mu.Lock()
	for _, c := range []net.Conn{l.client, l.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it may be closed already
		}
	}
	l.mu.Unlock()
	l.close()
}

// An ending is what happens behind the last piece of a flow.
type ending uint8

const (
	goesOn ending = iota
	ends          // this direction ends, the other goes on
	closes        // both ends are closed
	resets
	stalls
)

// A flow is one direction of a connection: read fills the lane, write empties
// the line behind it.
type flow struct {
	link     *link
	lane     *lane
	src, dst net.Conn
	fault    Fault
	arrived  func(n int)
	queue    []*piece // in the lane; guarded by the lane's mutex

	mu      sync.Mutex // guards what follows
	waiting int        // bytes in the lane's queue
	flying  int        // bytes in the queue or behind it
	out     []*piece   // behind it
	room    chan struct{}
	more    chan struct{}
}

func newFlow(l *link, lane *lane, src, dst net.Conn, fault Fault, arrived func(n int)) *flow {
	return &flow{link: l, lane: lane, src: src, dst: dst, fault: fault, arrived: arrived,
		room: make(chan struct{}, 1), more: make(chan struct{}, 1)}
}

// read takes what comes from the source until that ends, or the fault comes.
func (f *flow) read() {
	left := f.fault.After
	for f.await() {
		size, _ := f.lane.measures()
		p := &piece{flow: f, buf: buffers.Get().(*[largePiece]byte)}
		n, err := f.src.Read(p.buf[:size])
		p.n, p.ready = n, time.Now()
		switch {
		case err == io.EOF:
			p.last = ends
		case err != nil:
			p.last = resets
		}
		if f.fault.Kind != None && int64(n) >= left {
			p.n, p.struck = int(left), true
			p.last = [...]ending{Reset: resets, Truncate: closes, Stall: stalls}[f.fault.Kind]
		}
		left -= int64(p.n)
		f.mu.Lock()
		f.waiting += p.n
		f.flying += p.n
		f.mu.Unlock()
		f.lane.add(p)
		if p.last != goesOn {
			return
		}
	}
}

// await reports whether there is room for a piece before the connection is over.
func (f *flow) await() bool {
	for {
		_, waiting := f.lane.measures()
		f.mu.Lock()
		ok := f.waiting < waiting && f.flying < window
		f.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-f.room:
		case <-f.link.over:
			return false
		}
	}
}

// deliver is called when a piece has left the lane.
func (f *flow) deliver(p *piece) {
	f.mu.Lock()
	f.waiting -= p.n
	f.out = append(f.out, p)
	f.mu.Unlock()
	notify(f.more)
	notify(f.room)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write hands on what has arrived.
func (f *flow) write() {
	var vector net.Buffers
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		pieces := f.next(timer)
		if pieces == nil {
			return
		}
		vector = vector[:0]
		bytes := 0
		for _, p := range pieces {
			if p.n > 0 {
				vector = append(vector, p.buf[:p.n])
				bytes += p.n
			}
		}
		f.arrived(bytes) // before the other side can have them and look
		rest := vector   // WriteTo consumes it
		_, err := rest.WriteTo(f.dst)
		last, struck := pieces[len(pieces)-1].last, pieces[len(pieces)-1].struck
		for _, p := range pieces {
			buffers.Put(p.buf)
		}
		if err != nil {
			f.link.kill()
			return
		}
		f.mu.Lock()
		f.flying -= bytes
		f.mu.Unlock()
		notify(f.room)
		if last != goesOn {
			if struck && f.fault.Struck != nil {
				f.fault.Struck()
			}
			f.end(last)
			return
		}
	}
}

// next waits for the first piece to arrive, and takes those that come with it;
// nil when the connection is over.
func (f *flow) next(timer *time.Timer) []*piece {
	for {
		now := time.Now()
		f.mu.Lock()
		n := 0
		for n < len(f.out) && f.out[n].due.Sub(now) <= 0 {
			n++
		}
		if n > 0 {
			pieces := f.out[:n:n]
			f.out = f.out[n:]
			f.mu.Unlock()
			return pieces
		}
		wait := time.Hour
		if len(f.out) > 0 {
			wait = f.out[0].due.Sub(now)
		}
		f.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-f.more:
		case <-f.link.over:
			return nil
		}
	}
}

func (f *flow) end(how ending) {
	switch how {
	case ends:
		if half, ok := f.dst.(interface{ CloseWrite() error }); ok && !f.link.stalled.Load() {
			_ = half.CloseWrite() // the other side may be gone
			return
		}
		f.link.close()
	case closes:
		f.link.close()
	case resets:
		f.link.kill()
	case stalls:
		f.link.stalled.Store(true)
		<-f.link.over
	}
}
