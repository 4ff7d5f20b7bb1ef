package fetch

import "time"

// A window is how many requests the link carries well; see the package's doc.
// A round is as many answers as tell something, all to requests that were sent
// after the last change.
type window struct {
	min, max int
	size     float64       // between 1 and max
	yield    float64       // of background while it makes way, if more than its quarter
	base     time.Duration // the mean of the fastest round: latency without load
	last     time.Duration // the mean of the last round
	starting bool          // it doubles until the latency has grown
	punished time.Time

	since   time.Time // this round's beginning
	n       int       // its answers
	busy    int       // those that were refusals for the time being, not counted in n
	sum     time.Duration
	flying  int  // sum of what was in flight at each answer
	pressed bool // a request waited because the window was full

	squeezed bool // a background request waited because it made way

	usual   time.Duration // the latency of the last rounds with a full window
	rounds  int           // of those, since the last probe
	probing int           // rounds that are left of one
	before  float64       // size before it
}

const (
	firstWindow  = 4    // few, so that the first round shows the unloaded latency
	windowGain   = 2.0  // times what fills the link
	startingOver = 1.25 // times the unloaded latency ends the doubling
	yieldOver    = 1.1  // times it ends the growth of what background has beside demand
	probeRounds  = 10   // from one probe to the next
	probeFell    = 0.85 // times the usual latency, with half as many: the link was full
)

func newWindow(least, most int) window {
	w := window{min: least, max: most, size: min(firstWindow, float64(most)), starting: true}
	if w.fixed() {
		w.size = float64(most)
	}
	return w
}

func (w *window) fixed() bool { return w.min == w.max }

// demand is how many requests of demand may be in flight.
func (w *window) demand() int { return max(w.min, int(w.size)) }

// background is the window for all requests together as background sees it. It
// may be less than the minimum: on a slow link one request is enough. It is
// rounded: one at a time would measure a window of less than two for ever.
func (w *window) background() int { return int(w.size + 0.5) }

// yielding is how many background requests may be in flight while demand is
// under way.
func (w *window) yielding() int { return max(1, int(max(w.yield, w.size/4))) }

// press notes that a request waits because the window is full.
func (w *window) press(full bool) { w.pressed = w.pressed || full }

// squeeze notes that a background request waits because it makes way.
func (w *window) squeeze(full bool) { w.squeezed = w.squeezed || full }

// answered takes the time that a request took, and how many were in flight when
// it was answered.
func (w *window) answered(sent, now time.Time, flying int) {
	if sent.Before(w.since) {
		return
	}
	took := now.Sub(sent)
	if w.base > 0 {
		// One that was stuck says nothing of the others.
		took = min(took, 8*max(w.base, w.last))
	}
	w.n++
	w.sum += took
	w.flying += flying
	mean := float64(w.flying) / float64(w.n)
	if w.n < min(max(4, int(mean)), 64) {
		return
	}
	w.turn(w.sum/time.Duration(w.n), mean)
	w.since, w.n, w.sum, w.flying, w.busy = now, 0, 0, 0, 0
	w.pressed, w.squeezed = false, false
}

// turn ends a round with a mean latency and a mean number in flight.
func (w *window) turn(latency time.Duration, flying float64) {
	latency = max(latency, 1)
	if w.base == 0 || latency < w.base {
		w.base = latency
	}
	w.last = latency
	if w.fixed() {
		return
	}
	if w.probing > 0 && !w.pressed { // nothing to be learned any more
		w.probing = 0
		w.set(w.before)
	}
	if !w.pressed && !w.squeezed {
		return
	}
	if w.pressed && w.probe(latency) {
		return
	}
	slow := float64(latency) / float64(w.base)
	w.starting = w.starting && slow <= startingOver
	ratio := min(max(windowGain/slow, 0.5), 2)
	switch {
	case w.pressed && w.starting:
		w.set(2 * w.size)
	case w.pressed:
		w.set(ratio * flying)
	case ratio < 1:
		w.set(ratio * w.size)
	case slow <= yieldOver:
		// Demand may go on for long, and the window cannot grow meanwhile.
		w.yield = min(1.5*max(w.yield, w.size/4, 1), float64(w.max)/4)
	}
}

func (w *window) set(size float64) {
	w.size = min(max(size, 1), float64(w.max))
	w.yield = 0
}

// probe finds out, now and then, why the latency is high, by letting half of the
// window go for two rounds, which leaves a full link full. Where the latency
// does not fall, it is not the window that makes it, and what is usual counts as
// the latency without load. It reports whether it has set the window.
func (w *window) probe(latency time.Duration) bool {
	switch {
	case w.probing == 2: // this round has met what was in flight before
		w.probing = 1
		return true
	case w.probing == 1:
		w.probing = 0
		if float64(latency) > probeFell*float64(w.usual) {
			w.base = max(w.base, w.usual)
			w.starting = true
		}
		w.set(w.before)
		return true
	}
	if w.usual == 0 {
		w.usual = latency
	}
	w.usual += (latency - w.usual) / 4
	if w.rounds++; w.rounds < probeRounds || float64(latency) <= startingOver*float64(w.base) {
		return false
	}
	w.rounds, w.probing, w.before = 0, 2, w.size
	w.set(w.size / 2)
	return true
}

// refused notes that the origin had no time. A refusal now and then is a fault
// of the origin; when there are many in one round, it has too much to do.
func (w *window) refused(now time.Time) {
	if w.busy++; w.busy >= max(8, int(w.size)/2, w.n) {
		w.busy = 0
		w.punish(now, 0.75)
	}
}

// punish shrinks the window after a sign of overload, once per round trip.
func (w *window) punish(now time.Time, factor float64) {
	if w.fixed() || now.Sub(w.punished) < max(w.last, w.base) {
		return
	}
	w.punished = now
	w.starting = false
	w.set(factor * w.size)
}
