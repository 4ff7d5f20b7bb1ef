package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"caravel/castp"
	"caravel/internal/lastwords"
)

// A session is a conversation with one process.
type session struct {
	where string
	stall time.Duration
	idle  time.Duration

	cmd    *exec.Cmd
	in     io.WriteCloser // of the process
	out    io.ReadCloser
	stderr lastwords.Words
	kill   context.CancelFunc

	// handle takes a message; its data is read from r, at once. It is called by one
	// goroutine, which must not wait for one that writes. io.EOF ends the session.
	handle func(m castp.Message, r *castp.Reader) error
	owed   func() bool // whether the far side owes an answer
	file   bool        // it is about a file, which may be missing
	strict bool        // the process must say, by its status, that all went well

	retired atomic.Bool // it ends as soon as nothing is owed

	heard atomic.Int64 // nanoseconds of the clock: when the far side last gave a byte
	used  atomic.Int64 // and when somebody last wanted something

	mu    sync.Mutex // guards what follows
	jobs  []func(w *castp.Writer) error
	last  bool  // no job will follow
	cause error // why this side ends it; nil: it does not

	wake  chan struct{} // there may be jobs
	ready chan struct{} // closed when both have said HELLO
	done  chan struct{} // closed when all is over, and err is set
	err   error
}

// A call is what a far side is started for.
type call struct {
	place place
	verb  string // pull or push
	args  []string
	wants castp.Flags
}

// begin starts the process of a call and waits for its HELLO. With an error, nothing
// runs any more.
func (s *session) begin(ctx context.Context, c call, opt Options) error {
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	s.where, s.stall, s.idle, s.kill = c.place.String(), opt.Stall, opt.Idle, kill
	s.wake, s.ready, s.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	s.cmd = c.place.command(life, c.verb, c.args...)
	s.cmd.Stderr = &s.stderr
	s.cmd.WaitDelay = time.Second // somebody may have inherited its standard error
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	if s.out, err = s.cmd.StdoutPipe(); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		kill()
		return notStarted(c.place, err)
	}
	now := time.Now().UnixNano()
	s.heard.Store(now)
	s.used.Store(now)
	s.send(func(w *castp.Writer) error { return w.Hello(c.wants) })
	go s.run(c.wants)
	select {
	case <-s.ready:
		return nil
	case <-s.done:
		return s.err
	case <-ctx.Done():
		s.fail(context.Cause(ctx))
		<-s.done
		return context.Cause(ctx)
	}
}

// farewell is how long a far side that says no more has to end, and so to tell why.
const farewell = 5 * time.Second

// run is the session's life.
func (s *session) run(wants castp.Flags) {
	var busy sync.WaitGroup
	over := make(chan struct{})
	busy.Go(func() { s.write(over) })
	busy.Go(func() { s.watch(over) })
	err := s.read(wants)
	close(over)
	ended := errors.Is(err, errEnded)
	if err != nil && !ended {
		s.kill()
	}
	s.in.Close()
	busy.Wait()
	late := time.AfterFunc(s.stall, func() { s.fail(errLate) })
	if ended { // its status is about to say why
		late.Stop()
		late = time.AfterFunc(min(s.stall, farewell), s.kill)
	}
	_, _ = io.Copy(io.Discard, s.out) // it has nothing to say any more
	exit := s.cmd.Wait()
	late.Stop()
	s.kill()
	s.err = s.explain(err, exit)
	close(s.done)
}

// read takes what the far side says until it ends; nil: this was agreed upon.
func (s *session) read(wants castp.Flags) error {
	r := castp.NewReader(hearing{s})
	m, err := r.Next()
	if err == nil && m.Type == castp.Hello {
		if err := castp.Agree(wants, castp.Flags(m.Flags)); err != nil {
			return err
		}
		close(s.ready)
		m, err = r.Next()
	}
	for ; err == nil; m, err = r.Next() {
		if m.Type == castp.Abort {
			return &castp.AbortError{Code: m.Code, Text: m.Text}
		}
		if err = s.handle(m, r); err == io.EOF {
			return nil
		}
		if err != nil {
			break
		}
	}
	switch {
	case err == io.EOF:
		return s.ended()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errEnded
	}
	return err
}

// ended is what it means that the far side says no more.
func (s *session) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last {
		return nil
	}
	return errEnded
}

// errLate is a far side that was told to end and does not.
var errLate = errors.New("the far side does not end")

// errEnded is a far side that ends before it was told to.
var errEnded = errors.New("the far side has ended")

// send lets a job write, after those before it. It does not wait.
func (s *session) send(job func(w *castp.Writer) error) {
	s.mu.Lock()
	s.jobs = append(s.jobs, job)
	s.mu.Unlock()
	s.nudge()
}

// finish ends the session when all jobs are done: the far side finds that no more
// comes.
func (s *session) finish() {
	s.mu.Lock()
	s.last = true
	s.mu.Unlock()
	s.nudge()
}

func (s *session) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fail ends the session at once, for a reason.
func (s *session) fail(cause error) {
	s.mu.Lock()
	if s.cause == nil {
		s.cause = cause
	}
	s.mu.Unlock()
	s.kill()
	s.out.Close() // others may hold the other end of it
}

// write does the jobs. A far side that takes nothing more is about to end, and read
// finds out why.
func (s *session) write(over <-chan struct{}) {
	w := castp.NewWriter(s.in)
	for {
		s.mu.Lock()
		jobs, last := s.jobs, s.last
		s.jobs = nil
		s.mu.Unlock()
		for _, job := range jobs {
			if err := job(w); err != nil {
				if gone := (*fs.PathError)(nil); !errors.As(err, &gone) {
					s.fail(err)
				}
				return
			}
		}
		if len(jobs) > 0 {
			continue // others may have come, which go out together
		}
		if w.Flush() != nil {
			return
		}
		if last {
			s.in.Close()
			return
		}
		select {
		case <-s.wake:
		case <-over:
			return
		}
	}
}

// watch ends a session in which the far side owes an answer and says nothing, or from
// which nobody wants anything.
func (s *session) watch(over <-chan struct{}) {
	tick := time.NewTicker(max(min(s.stall, s.idle)/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case now := <-tick.C:
			heard, used := time.Unix(0, s.heard.Load()), time.Unix(0, s.used.Load())
			waiting := !s.wasReady() || s.owed() || s.ended() == nil
			since := now.Sub(heard)
			if heard.Before(used) {
				since = now.Sub(used)
			}
			switch {
			case waiting && since > s.stall:
				s.fail(fmt.Errorf("no answer in %v", s.stall))
			case !waiting && (s.retired.Load() || now.Sub(used) > s.idle):
				s.finish()
			}
		}
	}
}

// use notes that somebody wants something.
func (s *session) use() { s.used.Store(time.Now().UnixNano()) }

// hearing is what the far side says.
type hearing struct{ s *session }

func (h hearing) Read(p []byte) (int, error) {
	n, err := h.s.out.Read(p)
	h.s.heard.Store(time.Now().UnixNano())
	return n, err
}

// over reports whether the session is at its end, or about to be.
func (s *session) over() bool {
	select {
	case <-s.done:
		return true
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last || s.cause != nil
}
