package sftp

import (
	"io"
	"sync"
	"time"
)

const (
	// trickle is how many bytes count as a sign of life: with fewer, and no answer
	// complete, within the stall limit a session is as good as dead.
	trickle = 1 << 10

	// beats is how often within the limit that is looked at.
	beats = 4
)

// A pulse watches whether a session moves while somebody waits for it. Answers
// come in the order of requests, and what is sent may take long: it is the session
// that moves, not each of its calls.
type pulse struct {
	beat    time.Duration
	stalled func()
	calls   sync.WaitGroup // under way

	mu      sync.Mutex // guards what follows
	waiting int        // calls
	moved   int        // bytes since the last beat with enough of them
	quiet   int        // beats since then
	timer   *time.Timer
	stopped bool
}

func newPulse(limit time.Duration, stalled func()) *pulse {
	return &pulse{beat: limit / beats, stalled: stalled}
}

// begin counts a call that begins; false if there can be none any more.
func (p *pulse) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.calls.Add(1)
	p.waiting++
	if p.waiting > 1 {
		return true
	}
	p.moved, p.quiet = 0, 0
	if p.timer == nil {
		p.timer = time.AfterFunc(p.beat, p.look)
	} else {
		p.timer.Reset(p.beat)
	}
	return true
}

// end counts a call that has its answer.
func (p *pulse) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved = trickle
	p.waiting--
	if p.waiting == 0 {
		p.timer.Stop()
	}
	p.calls.Done()
}

// stop lets no further call begin.
func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

// look is one beat.
func (p *pulse) look() {
	if p.still() {
		p.stalled()
	}
}

// still reports whether nothing has moved for too long.
func (p *pulse) still() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == 0 || p.stopped {
		return false
	}
	if p.moved >= trickle {
		p.moved, p.quiet = 0, 0
	} else {
		p.quiet++
	}
	if p.quiet >= beats {
		return true
	}
	p.timer.Reset(p.beat)
	return false
}

func (p *pulse) move(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved += n
}

// reader counts what comes.
func (p *pulse) reader(r io.Reader) io.Reader { return pulseReader{r, p} }

type pulseReader struct {
	r io.Reader
	p *pulse
}

func (r pulseReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.p.move(n)
	return n, err
}

// writer counts what goes.
func (p *pulse) writer(w io.WriteCloser) io.WriteCloser { return pulseWriter{w, p} }

type pulseWriter struct {
	io.WriteCloser
	p *pulse
}

func (w pulseWriter) Write(b []byte) (int, error) {
	n, err := w.WriteCloser.Write(b)
	w.p.move(n)
	return n, err
}
