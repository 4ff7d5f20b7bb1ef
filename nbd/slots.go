package nbd

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	// hurry is what a client has for the negotiation while others wait to be served.
	hurry = 250 * time.Millisecond
	// idle is how long at least a client has had no request under way that makes way
	// for others.
	idle = 10 * time.Second
)

// takeSlot waits for one connection to end if there are as many as may be, and has
// others make way. It reports false when ctx has ended.
func (s *Server) takeSlot(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	if text := "nbd: no more connections served until one ends"; s.said.First(text) {
		s.opt.Log.Warn(text, "limit", s.opt.Conns)
	}
	tick := time.NewTicker(hurry / 10)
	defer tick.Stop()
	var asked time.Time // when somebody had to make way last; that takes a moment
	for {
		select {
		case s.slots <- struct{}{}:
			return true
		case <-tick.C:
			if time.Since(asked) >= hurry && s.makeWay() {
				asked = time.Now()
			}
		case <-ctx.Done():
			return false
		}
	}
}

// makeWay ends the clients that take their time over the negotiation, a reply or
// a payload, or else one that is idle. It reports whether there was any.
func (s *Server) makeWay() bool {
	some, choosing := s.hasten()
	if some || choosing { // who negotiates is through soon, or goes
		return some
	}
	c, since := s.idlest()
	if c == nil {
		return false
	}
	if text := "nbd: idle client makes way for others"; s.said.First(text + c.peer) {
		c.log.Warn(text, "idle", time.Since(since).Round(time.Second))
	}
	c.kill(errIdle)
	return true
}

// hasten ends the clients that are late, and reports whether there were some, and
// whether others negotiate.
func (s *Server) hasten() (some, choosing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixNano()
	for c := range s.conns {
		choose := c.chooseBy.Load()
		switch {
		case choose != 0 && choose < now:
			c.kill(errHurry)
			some = true
		case c.stalled(now) && c.guest():
			c.kill(errStalled)
			some = true
		case choose != 0:
			choosing = true
		}
	}
	return some, choosing
}

// idlest is the client that has been idle longest, for long enough, of those whose
// address holds the most connections; nil if nobody has.
func (s *Server) idlest() (who *conn, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(map[string]int)
	for c := range s.conns {
		held[c.peer]++
	}
	for c := range s.conns {
		rested, is := c.idle()
		if !is || time.Since(rested) < idle {
			continue
		}
		if who == nil || held[c.peer] > held[who.peer] || held[c.peer] == held[who.peer] && rested.Before(since) {
			who, since = c, rested
		}
	}
	return who, since
}

// guest reports whether the client came by the negotiation, and is through with it:
// what ServeKernel serves does not make way.
func (c *conn) guest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.rested.IsZero() && !c.dead
}

// idle reports whether such a client has no request under way, and since when.
func (c *conn) idle() (since time.Time, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rested, !c.rested.IsZero() && c.requests == 0 && !c.dead
}

// peer is what is the same for the connections of one client, if it has several: its
// address without the port, of IPv6 the network, of which a machine has all
// addresses; for Unix sockets, nothing.
func peer(a net.Addr) string {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ""
	}
	addr := at.Addr().Unmap()
	if addr.Is4() {
		return addr.String()
	}
	network, _ := addr.Prefix(64) // which every IPv6 address has
	return network.String()
}
