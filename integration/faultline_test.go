//go:build linux

package integration

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"caravel/integration/relay"
	"caravel/store/storetest"
)

// A line leads to a server by relays, of which the first is for where the server is, and
// the others for ports that it names to its clients.
type line struct {
	t      testing.TB
	relays []*relay.Relay

	mu     sync.Mutex // guards what follows
	now    *storetest.Break
	struck func()
}

var _ storetest.Line = (*line)(nil)

// newLine is a line to an address.
func newLine(t testing.TB, server string) *line { return startLine(t, "", server) }

// lines counts those that have an address of their own.
var lines atomic.Uint32

// newLineTo is a line to a server that has its clients come to other ports, too. Over the
// line, all have the same numbers at another of this machine's addresses.
func newLineTo(t testing.TB, servers ...string) *line {
	n := lines.Add(1)
	return startLine(t, fmt.Sprintf("127.1.%d.%d", n/250, n%250+1), servers...)
}

func startLine(t testing.TB, host string, servers ...string) *line {
	t.Helper()
	l := &line{t: t}
	for _, server := range servers {
		opt := relay.Options{Faults: l.fault}
		if host != "" {
			_, port, _ := net.SplitHostPort(server)
			opt.Listen = net.JoinHostPort(host, port)
		}
		r, err := relay.Start(server, opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		l.relays = append(l.relays, r)
	}
	return l
}

func (l *line) Address() string { return l.relays[0].Addr() }

// slow limits what the line carries, in bytes a second.
func (l *line) slow(rate int64) *line {
	for _, r := range l.relays {
		r.SetRates(rate, rate)
	}
	return l
}

// fault is that of a connection.
func (l *line) fault(int64) relay.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		return relay.Fault{}
	}
	kind := map[storetest.BreakKind]relay.Kind{storetest.Reset: relay.Reset, storetest.Cut: relay.Truncate, storetest.Stall: relay.Stall}[l.now.Kind]
	return relay.Fault{Kind: kind, Up: l.now.Up, After: l.now.After, Struck: l.struck}
}

func (l *line) Break(b storetest.Break) <-chan struct{} {
	struck := make(chan struct{})
	var once sync.Once
	l.mu.Lock()
	l.now, l.struck = &b, func() { once.Do(func() { close(struck) }) }
	l.mu.Unlock()
	for _, r := range l.relays {
		if b.Kind != storetest.Refuse {
			r.Cut()
		} else if err := r.Refuse(); err != nil {
			l.t.Error(err)
		}
	}
	return struck
}

func (l *line) Mend() {
	l.mu.Lock()
	l.now = nil
	l.mu.Unlock()
	for _, r := range l.relays {
		if err := r.Restore(); err != nil {
			l.t.Error(err)
		}
		r.Cut()
	}
}

func (l *line) Carried() (up, down int64) {
	for _, r := range l.relays {
		c := r.Counts()
		up, down = max(up, c.Up), max(down, c.Down)
	}
	return up, down
}
