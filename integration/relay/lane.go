package relay

import (
	"sync"
	"time"
)

const (
	// burst is how early a piece may leave its place in the queue: what is due
	// within it goes with one timer. It arrives at its own time all the same.
	burst = 500 * time.Microsecond

	// ahead is how much of a connection waits in the queue, in time at the lane's
	// rate: enough for its reader to wake up late and be fair to others.
	ahead = 8 * time.Millisecond

	smallPiece = 4 << 10
	largePiece = 64 << 10
)

// A piece is some bytes of one connection in one direction.
type piece struct {
	flow   *flow
	buf    *[largePiece]byte
	n      int
	ready  time.Time // when it could have begun to leave
	due    time.Time // when it arrives
	last   ending    // what happens behind it
	struck bool      // that is the flow's fault
}

var buffers = sync.Pool{New: func() any { return new([largePiece]byte) }}

// A lane is one direction of the line. The connections that have pieces waiting
// take turns.
type lane struct {
	delay time.Duration
	wake  chan struct{}

	mu    sync.Mutex // guards what follows
	rate  int64      // bytes per second; 0: no limit
	turns []*flow    // those with pieces waiting, the next one first
	free  time.Time  // when the pieces that left are through
}

func newLane(rate int64, delay time.Duration) *lane {
	return &lane{rate: rate, delay: delay, wake: make(chan struct{}, 1)}
}

func (l *lane) setRate(rate int64) {
	l.mu.Lock()
	l.rate = rate
	l.mu.Unlock()
	l.poke()
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// measures are the size of a piece, and how many bytes of a connection may wait.
func (l *lane) measures() (size, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate <= 0 {
		return largePiece, 16 * largePiece
	}
	waiting = int(min(float64(l.rate)*ahead.Seconds(), 16*largePiece))
	size = min(max(waiting/4, smallPiece), largePiece)
	return size, max(waiting, 2*size)
}

// add puts a piece behind those of its connection.
func (l *lane) add(p *piece) {
	l.mu.Lock()
	p.flow.queue = append(p.flow.queue, p)
	if len(p.flow.queue) == 1 {
		l.turns = append(l.turns, p.flow)
	}
	first := len(l.turns) == 1
	l.mu.Unlock()
	if first {
		l.poke()
	}
}

// run lets pieces leave until the relay is closed.
func (l *lane) run(life <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		left, wait := l.leave(time.Now())
		for _, p := range left {
			p.flow.deliver(p)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-life:
			return
		}
	}
}

// leave takes out what is due, and says when to come again.
func (l *lane) leave(now time.Time) (left []*piece, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.turns) > 0 {
		f := l.turns[0]
		p := f.queue[0]
		start := p.ready
		if l.free.After(start) {
			start = l.free
		}
		through := start.Add(l.takes(p.n))
		if wait = through.Sub(now) - burst; wait > 0 {
			return left, wait
		}
		l.free = through
		p.due = through.Add(l.delay)
		left = append(left, p)
		l.turns, f.queue = l.turns[1:], f.queue[1:]
		if len(f.queue) > 0 {
			l.turns = append(l.turns, f)
		}
	}
	return left, time.Hour
}

// takes is how long n bytes take, for a caller that holds the lock.
func (l *lane) takes(n int) time.Duration {
	if l.rate <= 0 {
		return 0
	}
	return time.Duration(float64(n) / float64(l.rate) * float64(time.Second))
}
