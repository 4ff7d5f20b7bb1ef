package fetch

import "time"

// A window is how many requests the link carries well; see the package's doc.
// A round is as many answers as tell something, all to requests that were sent
// after the last change.
type window struct {
	min, max int
	size     float64       // between 1 and max
	base     time.Duration // the mean of the fastest round: latency without load
	last     time.Duration // the mean of the last round
	starting bool          // it doubles until the latency has grown
	punished time.Time

	since   time.Time // this round's beginning
	n       int       // its answers
	busy    int       // those that were refusals for the time being, not counted in n
	sum     time.Duration
	flying  int // sum of what was in flight at each answer
	pressed bool
	squeezd bool

	// In flight and latency when the window began to shrink; 0: it does not.
	before        float64
	beforeLatency time.Duration
}

const (
	firstWindow  = 4    // few, so that the first round shows the unloaded latency
	windowGain   = 2.0  // times what fills the link
	startingOver = 1.25 // times the unloaded latency ends the doubling
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
// may be less than the minimum: on a slow link one request is enough.
func (w *window) background() int { return int(w.size) }

// press notes that a request waits because the window is full.
func (w *window) press(full bool) { w.pressed = w.pressed || full }

// squeeze notes that a background request waits because it makes way.
func (w *window) squeeze(full bool) { w.squeezd = w.squeezd || full }

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
	if w.n < min(max(4, int(w.size)), 64) {
		return
	}
	w.turn(w.sum/time.Duration(w.n), float64(w.flying)/float64(w.n))
	w.since, w.n, w.sum, w.flying, w.busy = now, 0, 0, 0, 0
	w.pressed, w.squeezd = false, false
}

// turn ends a round with a mean latency and a mean number in flight.
func (w *window) turn(latency time.Duration, flying float64) {
	latency = max(latency, 1)
	if w.base == 0 || latency < w.base {
		w.base = latency
	}
	w.last = latency
	if w.fixed() || !w.pressed && !w.squeezd {
		return
	}
	w.doubt(latency, flying)
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
	}
}

func (w *window) set(size float64) { w.size = min(max(size, 1), float64(w.max)) }

// doubt raises the base where latency did not fall with the window: then it was
// not the window that made it grow.
func (w *window) doubt(latency time.Duration, flying float64) {
	if float64(latency) <= windowGain*float64(w.base) {
		w.before = 0
		return
	}
	floor := flying > 1.25*w.size || w.size <= 1
	switch {
	case w.before == 0:
		w.before, w.beforeLatency = flying, latency
	case flying <= 0.5*w.before:
		if float64(latency) > 0.85*float64(w.beforeLatency) {
			w.base = latency
		}
		w.before = 0
	case floor:
		// It cannot shrink any further, so that nothing can be learned from
		// shrinking: believe in the latency little by little.
		w.base += (latency - w.base) / 8
	}
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
