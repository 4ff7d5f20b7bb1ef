package fetch

import (
	"math"
	"time"
)

// A window is how many requests the link carries well; see the package's doc.
// A round is as many answers as tell something, all to requests that were sent
// after the last change.
type window struct {
	min, max int
	size     float64       // between 1 and max
	yield    float64       // of background while it makes way, if more than its quarter
	base     time.Duration // the mean of the fastest rounds: latency without load
	sure     float64       // answers that it is the mean of
	jitter   float64       // ns by which answers differ for no reason of ours
	last     time.Duration // the mean of the last round
	starting bool          // it doubles until the latency has grown
	punished time.Time

	since   time.Time     // this round's beginning
	first   time.Time     // its first answer
	spread  time.Duration // from that to its last
	n       int           // its answers
	busy    int           // those that were refusals for the time being, not counted in n
	sum     time.Duration
	prev    time.Duration // what the last of them took
	came    time.Time     // when
	uneven  float64       // sum of the squares, in ns, of how each differed from the one before
	flying  int           // sum of what was in flight at each answer
	pressed bool          // a request waited because the window was full

	squeezed bool // a background request waited because it made way
	alone    bool // in the last round none did

	late    int       // answers in a row that took far too long
	tail    float64   // the share of late ones among the answers before
	slowly  time.Time // when the first of them came
	braked  time.Time // when the window was last cut for their sake
	clogged bool      // no answer since then has shown that the link is free again

	usual   time.Duration // the latency of the last rounds with a full window
	rounds  int           // of those, since the last probe
	probing int           // what is left of one: 2: all of it, 1: its answers
	before  float64       // size before it
	probed  float64       // answers in it
	took    float64       // ns that they took, all together
}

const (
	firstWindow  = 4    // few, so that the first round shows the unloaded latency
	windowGain   = 2.0  // times what fills the link
	startingOver = 1.25 // times the unloaded latency ends the doubling
	yieldOver    = 1.1  // times it ends the growth of what background has beside demand
	probeRounds  = 10   // from one probe to the next
	probeFell    = 0.85 // times the usual latency, with half as many: the link was full
	mostProbed   = 48   // answers, after which one that is still in doubt is over
	mostSure     = 256  // answers that the latency without load is the mean of

	lateOver    = 4 // times the unloaded latency is late: a full window makes it twice
	lateAtLeast = 50 * time.Millisecond
	lateRun     = 5    // late ones in a row are no slow tail any more
	lateLuck    = 1e-7 // a run of late ones that is less likely is none of chance
	tailOf      = 256  // the last answers, more or less, are those before
	mostTail    = 0.5  // so that 24 late ones are enough whatever was before
	collapse    = 4    // times fewer than the window: a matter for more than rounds
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
func (w *window) background() int { return int(max(w.size, w.yield) + 0.5) }

// fill is how many requests' worth of bytes background may have in flight while
// nobody waits: three quarters of the window, or all of it where even the
// largest one does not fill the link.
func (w *window) fill() float64 {
	size := max(w.size, w.yield)
	if w.alone && size > 0.95*float64(w.max) && float64(w.last) <= yieldOver*float64(w.idle()) {
		return size
	}
	return 0.75 * size
}

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
	w.watch(sent, now)
	if sent.Before(w.since) {
		return
	}
	took := now.Sub(sent)
	if w.base > 0 {
		// One that was stuck says nothing of the others.
		took = min(took, 8*max(w.base, w.last))
	}
	if w.n++; w.n == 1 {
		w.first = now
	}
	w.spread = now.Sub(w.first)
	w.sum += took
	w.compare(took, now)
	w.flying += flying
	mean := float64(w.flying) / float64(w.n)
	enough := mean
	if w.starting { // those that were sent at once when the window had doubled
		enough /= 2
	}
	if w.n < min(max(4, int(enough)), 64) {
		return
	}
	w.turn(w.sum/time.Duration(w.n), mean)
	w.begin(now)
}

// compare adds to what is uneven in a round. An answer that took longer than the
// one before may have waited behind it, but not for longer than came between.
func (w *window) compare(took time.Duration, now time.Time) {
	differs := took - w.prev
	if differs > 0 {
		differs = max(0, differs-now.Sub(w.came))
	}
	if w.n > 1 {
		w.uneven += float64(differs) * float64(differs)
	}
	w.prev, w.came = took, now
}

// begin begins a round.
func (w *window) begin(now time.Time) {
	w.since, w.n, w.sum, w.uneven, w.flying, w.busy = now, 0, 0, 0, 0, 0
	w.pressed, w.squeezed = false, false
}

// watch cuts the window at once when the link has become much slower: the
// rounds, which wait for requests that were sent later than what fills the link
// now, would find out only when that has drained. Several late answers in a row
// are the sign, unless so many answers are late anyway that it may be chance, and
// if they also come slowly: after a moment of silence, or on connections that are
// new, they come all together.
func (w *window) watch(sent, now time.Time) {
	switch {
	case w.fixed() || w.base == 0 || sent.Before(w.braked):
		return
	case now.Sub(sent) < max(lateOver*w.idle(), lateAtLeast):
		w.tail += (float64(w.late) - w.tail*float64(w.late+1)) / tailOf
		w.late, w.clogged = 0, false
		return
	case w.clogged: // the rounds are short again
		return
	case w.late == 0:
		w.slowly = now
	}
	w.late++
	took := now.Sub(w.slowly)
	if w.late < lateRun || took <= 0 || math.Pow(min(w.tail, mostTail), float64(w.late)) > lateLuck {
		return
	}
	carries := windowGain * float64(w.late-1) * float64(w.base) / float64(took)
	if carries > w.size/collapse {
		return
	}
	w.set(carries)
	w.starting, w.probing = false, 0
	w.braked, w.late, w.clogged = now, 0, true
	w.begin(now)
}

// turn ends a round with a mean latency and a mean number in flight.
func (w *window) turn(latency time.Duration, flying float64) {
	latency = max(latency, 1)
	w.learn(latency)
	w.last = latency
	w.alone = !w.squeezed
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
	slow := float64(latency) / float64(w.idle())
	w.starting = w.starting && slow <= startingOver
	switch {
	case w.pressed && w.starting:
		w.set(w.leap() * w.size)
	case w.pressed && !w.squeezed:
		w.set(flying * min(max(windowGain/slow, 0.5), 2))
	default:
		w.beside(slow)
	}
}

// learn takes the mean latency of a round. Where the latency is all over the
// place, a round of few answers may be fast by luck alone, so those rounds count
// of which it is sure that they are the fastest. Jitter is how each answer
// differs from the one before: on a full link they all wait, but alike.
func (w *window) learn(latency time.Duration) {
	n := float64(w.n)
	jitter := math.Sqrt(w.uneven / (2 * max(n-1, 1)))
	if w.base == 0 {
		w.base, w.sure, w.jitter = latency, n, jitter
		return
	}
	w.jitter += (jitter - w.jitter) / 4
	switch idle := w.idle(); {
	case latency+w.doubt(n) < idle:
		w.base, w.sure = latency, n
	case latency <= idle:
		w.base += time.Duration(float64(latency-w.base) * n / (w.sure + n))
		w.sure = min(w.sure+n, mostSure)
	}
}

// doubt is by how much the mean of n answers may be wrong.
func (w *window) doubt(n float64) time.Duration {
	return time.Duration(2 * w.jitter / math.Sqrt(n))
}

// idle is what the latency without load may be, at most.
func (w *window) idle() time.Duration { return w.base + w.doubt(max(w.sure, 1)) }

// leap is by how much the window grows while it starts: doubled, or where the
// answers follow one another so closely that the link would carry as much,
// fourfold. A first window of 16 would save no more, and keep a read at the
// start waiting for 2.8 s in place of 0.8 on a link of 1 Mbit/s.
func (w *window) leap() float64 {
	carries := float64(w.n-1) * float64(w.base) / float64(max(w.spread, 1))
	if carries >= 4*w.size {
		return 4
	}
	return 2
}

// beside ends a round in which background made way for some of the time. Demand
// may go on for long, or come again and again, and what is in flight meanwhile
// says little of what the link could carry. So background feels its way up from
// its quarter of the window, and back.
func (w *window) beside(slow float64) {
	switch quarter := w.size / 4; {
	case slow > startingOver && w.yield > quarter:
		w.yield *= max(yieldOver/slow, 0.5)
	case slow > windowGain:
		w.set(w.size * max(windowGain/slow, 0.5))
	case slow <= yieldOver:
		w.yield = min(1.5*max(w.yield, quarter, 1), float64(w.max)/4)
		if w.pressed {
			w.size = min(1.5*w.size, float64(w.max))
		}
	}
}

func (w *window) set(size float64) {
	w.size = min(max(size, 1), float64(w.max))
	w.yield = 0
}

// probe finds out, now and then, why the latency is high, by letting half of the
// window go for two rounds, which leaves a full link full, or for more until
// enough have answered to tell. Where the latency does not fall, it is not the
// window that makes it, and what is usual counts as the latency without load. It
// reports whether it has set the window.
func (w *window) probe(latency time.Duration) bool {
	switch {
	case w.probing == 2: // this round has met what was in flight before
		w.probing, w.probed, w.took = 1, 0, 0
		return true
	case w.probing == 1:
		w.probed += float64(w.n)
		w.took += float64(latency) * float64(w.n)
		if w.probed < mostProbed && float64(w.doubt(w.probed)) > (1-probeFell)*float64(w.usual) {
			return true
		}
		w.probing = 0
		if w.took/w.probed > probeFell*float64(w.usual) {
			w.base = max(w.base, w.usual)
			w.sure = max(w.sure, w.probed)
			w.starting = true
		}
		w.set(w.before)
		return true
	}
	if w.usual == 0 {
		w.usual = latency
	}
	w.usual += (latency - w.usual) / 4
	if w.rounds++; w.rounds < probeRounds || float64(latency) <= startingOver*float64(w.idle()) {
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
