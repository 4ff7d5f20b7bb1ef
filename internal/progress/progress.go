// Package progress shows how far a long job has come, on one line of a terminal
// or as lines for a log or a program.
//
//	p := progress.New(os.Stderr, progress.Auto, "extract disk.caibx", x.Size())
//	err := image.Extract(ctx, …, image.ExtractOptions{Progress: p.Counter()})
//	p.Done(err)
//
// The job only ever adds to an atomic counter, which is looked at now and then;
// however slow the terminal is, the job does not wait for it.
//
// Bar draws a line ten times a second and takes it away at the end. Plain
// writes a line every five seconds. A job that took that long leaves a last
// line with its size, time and rate in either mode, a shorter one leaves
// nothing. JSON writes an object on a line every second and one at the end:
//
//	what     the job
//	state    "running", and at the end "done" or "failed"
//	done     bytes so far
//	total    bytes in all; left out if unknown
//	rate     bytes a second; at the end over the whole time
//	left     seconds to go, estimated; left out if unknown and at the end
//	elapsed  seconds since the start
//	error    why it failed; left out otherwise
package progress

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// patience is the time between two lines in a log, and how long a job must
// take to be worth a line when it is over.
const patience = 5 * time.Second

// Progress is the display of one job. Its methods may be called from many
// goroutines.
type Progress struct {
	what    string
	mode    Mode
	done    atomic.Int64
	total   atomic.Int64
	start   time.Time
	stop    chan struct{} // closed by Done
	stopped chan struct{} // closed when the drawing goroutine is gone
	finish  sync.Once

	mu    sync.Mutex // held while writing: guards w and what lies below
	w     io.Writer
	meter meter
	drawn string // the bar's line, as it stands on the terminal
}

// New begins to show the job called what, of total bytes (0: unknown), on w. A
// call of Done must follow. Of what, only printable characters reach w.
func New(w io.Writer, mode Mode, what string, total int64) *Progress {
	p := &Progress{
		what:    printable(what),
		mode:    mode.on(w),
		start:   time.Now(),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		w:       w,
	}
	p.total.Store(total)
	p.meter.last = p.start
	if p.mode == None {
		close(p.stopped)
	} else {
		go p.run()
	}
	return p
}

// Add counts n more bytes.
func (p *Progress) Add(n int64) { p.done.Add(n) }

// Set says that n bytes are done.
func (p *Progress) Set(n int64) { p.done.Store(n) }

// Total changes the number of bytes in all; 0: unknown.
func (p *Progress) Total(n int64) { p.total.Store(n) }

// Counter is what Add and Set change, for a job that counts for itself.
func (p *Progress) Counter() *atomic.Int64 { return &p.done }

// Write writes whole lines where the progress is shown, above the bar. A logger
// that shares the terminal writes here.
func (p *Progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.drawn
	p.draw("")
	n, err := p.w.Write(b)
	if bytes.HasSuffix(b, []byte("\n")) {
		p.draw(was)
	}
	return n, err
}

// Done ends the display; err says how the job ended. Nothing of the bar is left
// when it returns. Only the first call counts.
func (p *Progress) Done(err error) {
	p.finish.Do(func() {
		close(p.stop)
		<-p.stopped
		p.mu.Lock()
		defer p.mu.Unlock()
		p.end(err)
	})
}

func (p *Progress) run() {
	defer close(p.stopped)
	tick := time.NewTicker(p.mode.every())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.mu.Lock()
			p.report()
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

// report shows how things stand. p.mu is held.
func (p *Progress) report() {
	s := p.status()
	switch p.mode {
	case Bar:
		p.draw(s.bar(columns(p.w) - 1)) // in the last column some terminals wrap
	case JSON:
		p.line(s.json("running", nil))
	case Parsable:
		p.line(s.parsable())
	default:
		p.line(s.plain())
	}
}

// end takes the bar away and writes what is to stay. p.mu is held.
func (p *Progress) end(err error) {
	p.draw("")
	s := p.status()
	switch {
	case p.mode == None:
	case p.mode == JSON && err == nil:
		p.line(s.json("done", nil))
	case p.mode == JSON:
		p.line(s.json("failed", err))
	case err == nil && s.elapsed >= patience:
		p.line(s.summary())
	}
}

func (p *Progress) status() status {
	now := time.Now()
	done := p.done.Load()
	return status{
		what:    p.what,
		done:    done,
		total:   p.total.Load(),
		elapsed: now.Sub(p.start),
		rate:    p.meter.sample(now, done),
	}
}

// draw replaces the bar's line, "" takes it away. Blanks rather than an escape
// sequence wipe the old one: they work on every terminal. Nobody needs to know
// that the terminal is gone.
func (p *Progress) draw(line string) {
	if line == p.drawn {
		return
	}
	wipe := strings.Repeat(" ", max(0, cells(p.drawn)-cells(line)))
	out := "\r" + line + wipe
	if line == "" {
		out += "\r"
	}
	_, _ = io.WriteString(p.w, out)
	p.drawn = line
}

// line writes a line that stays.
func (p *Progress) line(s string) { _, _ = io.WriteString(p.w, s+"\n") }
