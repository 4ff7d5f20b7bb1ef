// Package relay stands between a client and a server of the tests and makes a
// long line of the short way between them: what goes over it comes late, shares
// its bandwidth with all other connections, and can be cut off.
//
//	r, err := relay.Start(server.Addr().String(), relay.Options{RTT: 20 * time.Millisecond, Down: 125e6})
//	get("http://" + r.Addr() + "/file")
//	r.SetRates(0, 2.5e6) // while it runs
//
// A new connection costs a round trip before its first byte passes, as a
// handshake does; there is neither slow start nor loss. Each direction is one
// queue: bytes leave it at its rate, one connection's after another's, and
// arrive half a round trip later. The times are computed, not slept: a relay
// that wakes up late makes up for it as long as there is something to carry.
package relay

import (
	"cmp"
	"net"
	"sync"
	"time"
)

// Options describes the line. The zero value carries all at once.
type Options struct {
	RTT    time.Duration       // half of it each way
	Up     int64               // bytes per second to the server; 0: no limit
	Down   int64               // and from it
	Faults func(n int64) Fault // what becomes of the nth connection, from 1; nil: nothing
	Listen string              // the address to listen at; "": any port of 127.0.0.1
}

// A Fault is what becomes of a connection. The zero value is nothing.
type Fault struct {
	Kind   Kind
	After  int64  // bytes from the server that still arrive
	Up     bool   // After counts bytes to the server
	Struck func() // called when it has come to that; nil: nobody wants to know
}

// A Kind is a way for a connection to end.
type Kind uint8

// The kinds of faults.
const (
	None     Kind = iota
	Reset         // it is reset
	Truncate      // it ends as if the server had closed it
	Stall         // nothing more arrives, and it stays open
)

// Counts is what a Relay has carried.
type Counts struct {
	Connections int64 // accepted
	Open        int64 // now
	Peak        int64 // most at the same time
	Up, Down    int64 // bytes that arrived
}

// A Relay is such a line. Its methods may be called from many goroutines.
type Relay struct {
	opt      Options
	target   string
	addr     string
	up, down *lane
	life     chan struct{} // closed by Close
	work     sync.WaitGroup

	mu       sync.Mutex   // guards what follows
	listener net.Listener // nil: connections are refused
	links    map[*link]struct{}
	counts   Counts
	refusing bool
	closed   bool
}

// Start relays connections to target, a TCP address, until Close.
func Start(target string, opt Options) (*Relay, error) {
	r := newRelay(opt)
	r.target, r.addr = target, cmp.Or(opt.Listen, "127.0.0.1:0")
	if err := r.Restore(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func newRelay(opt Options) *Relay {
	r := &Relay{
		opt:   opt,
		up:    newLane(opt.Up, opt.RTT/2),
		down:  newLane(opt.Down, opt.RTT/2),
		life:  make(chan struct{}),
		links: make(map[*link]struct{}),
	}
	r.work.Go(func() { r.up.run(r.life) })
	r.work.Go(func() { r.down.run(r.life) })
	return r
}

// Addr is the address to connect to, instead of the server's.
func (r *Relay) Addr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addr
}

// SetRates changes the bandwidth, also for what is on its way to the line.
func (r *Relay) SetRates(up, down int64) {
	r.up.setRate(up)
	r.down.setRate(down)
}

// Counts returns what happened since Start.
func (r *Relay) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// Cut resets all connections that are open.
func (r *Relay) Cut() {
	for _, l := range r.open() {
		l.kill()
	}
}

func (r *Relay) open() (links []*link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.links {
		links = append(links, l)
	}
	return links
}

// Refuse cuts all connections, and has new ones refused by the system, until
// Restore.
func (r *Relay) Refuse() error {
	r.mu.Lock()
	listener := r.listener
	r.listener, r.refusing = nil, true
	r.mu.Unlock()
	r.Cut()
	if listener == nil {
		return nil
	}
	return listener.Close()
}

// Restore takes connections again, at the same address.
func (r *Relay) Restore() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil || r.closed {
		return nil
	}
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		return err
	}
	r.listener, r.addr, r.refusing = listener, listener.Addr().String(), false
	r.work.Go(func() { r.accept(listener) })
	return nil
}

func (r *Relay) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed
		}
		r.work.Go(func() { r.relay(client, func() (net.Conn, error) { return net.Dial("tcp", r.target) }) })
	}
}

// relay carries one connection until it is over.
func (r *Relay) relay(client net.Conn, dial func() (net.Conn, error)) {
	l := &link{client: client, over: make(chan struct{})}
	n := r.join(l)
	if n == 0 {
		l.kill()
		return
	}
	defer r.part(l)
	server, err := dial()
	if err != nil || !l.meets(server) {
		l.kill()
		return
	}
	var onUp, onDown Fault
	if r.opt.Faults != nil {
		onDown = r.opt.Faults(n)
	}
	if onDown.Up {
		onUp, onDown = onDown, Fault{}
	}
	up := newFlow(l, r.up, client, server, onUp, r.arrived(&r.counts.Up))
	down := newFlow(l, r.down, server, client, onDown, r.arrived(&r.counts.Down))
	var all sync.WaitGroup
	all.Go(func() {
		if sleep(r.opt.RTT, l.over) { // the handshake
			up.read()
		}
	})
	all.Go(down.read)
	all.Go(up.write)
	all.Go(down.write)
	all.Wait()
	l.close()
}

// arrived counts bytes.
func (r *Relay) arrived(count *int64) func(n int) {
	return func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		*count += int64(n)
	}
}

// join counts a connection and returns its number, 0 when it is too late.
func (r *Relay) join(l *link) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.refusing {
		return 0
	}
	r.links[l] = struct{}{}
	r.counts.Connections++
	r.counts.Open++
	r.counts.Peak = max(r.counts.Peak, r.counts.Open)
	return r.counts.Connections
}

func (r *Relay) part(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, l)
	r.counts.Open--
}

// Close cuts all connections and returns when nothing is carried any more.
func (r *Relay) Close() error {
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	r.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	err := r.Refuse()
	close(r.life)
	r.work.Wait()
	return err
}

// sleep reports whether d passed before over was closed.
func sleep(d time.Duration, over <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-over:
		return false
	}
}
