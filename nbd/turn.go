package nbd

import "time"

const (
	patience  = 500 * time.Microsecond
	slowRead  = 200 * time.Microsecond
	wariness  = 64        // reads
	largeRead = 512 << 10 // worth a second processor, which copies while the first one sends
	batchSize = 64 << 10  // of replies that wait for more of them
)

// A turn is how requests are read and answered at the same time without
// a goroutine for each. One goroutine of a connection leads: it alone takes
// requests from the socket. What it expects to be quick it answers itself,
// which costs no switch, and while more requests have arrived, one write sends
// the replies of many. If that takes longer than patience, a new goroutine
// leads, and the old one goes when its request is done. Where reads were slow
// lately, the lead is handed over before the read; so it is before what waits for
// the disk. Writes are as reads, their payload being read by who leads. All is
// guarded by conn.mu.
type turn struct {
	own   bool   // the leader is at a request of its own
	count uint64 // grows with each such request, and when the lead is lost at one
	seen  uint64 // count when watch looked last
	timer *time.Timer
	armed bool // timer runs
	wary  int  // requests to be handed over before the leader tries one itself again
}

// handsOver reports whether another goroutine shall lead while j is handled;
// if not, mine is the number of the leader's own turn.
func (c *conn) handsOver(j *job) (mine uint64, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.turn
	if j.cost > 0 && (t.wary > 0 || j.cost >= largeRead) || c.waits(j) {
		return 0, true
	}
	t.own = true
	t.count++
	if !t.armed {
		t.armed = true
		t.timer.Reset(patience)
	}
	return t.count, false
}

// watch gives the lead to a new goroutine if the leader has been at one
// request all the time since watch looked last.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.turn
	switch {
	case !t.own && t.seen == t.count:
		t.armed = false
	case t.own && t.seen == t.count:
		t.own, t.armed = false, false
		t.count++
		t.wary = wariness
		c.work.Go(c.lead)
	default:
		t.seen = t.count
		t.timer.Reset(patience)
	}
}

// replyOwn queues the reply to j, which was the leader's own turn mine. It
// reports whether the lead was lost meanwhile, and whether there is enough to
// be sent now.
func (c *conn) replyOwn(j *job, mine uint64) (lost, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enqueue(j)
	if c.turn.count != mine {
		return true, true
	}
	c.turn.own = false
	return false, c.queued >= batchSize
}

// reply queues the reply to j, which took a goroutine that did not lead.
func (c *conn) reply(j *job, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enqueue(j)
	if j.cost >= largeRead || c.waits(j) {
		return
	}
	if took > slowRead {
		c.turn.wary = wariness
	} else if c.turn.wary > 0 {
		c.turn.wary--
	}
}
