package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/pkg/sftp"

	"caravel/internal/lastwords"
)

// ending is how long a program may take to end when its session is over.
const ending = time.Second

// A session is one ssh process, and what is under way over it. Requests are sent as
// they come; no library call knows of a context, so whoever waits for one can leave,
// and the call ends by itself, with the session at the latest.
type session struct {
	pool   *pool
	cmd    *exec.Cmd
	stdout io.Closer
	said   *lastwords.Words
	client *sftp.Client
	pulse  *pulse
	idle   *time.Timer // ends it; stopped while it has load
	load   int         // who is at work with it; guarded by pool.mu

	unwatch func() bool // forgets to end it with its pool

	mu     sync.Mutex // guards killed
	killed error      // why it is made to end; nil: it is not

	gone chan struct{} // closed when nothing of it runs any more, and why is set
	why  *deathError
}

// begin starts a session and waits until the server has greeted.
func (p *pool) begin() (*session, error) {
	s := &session{pool: p, said: &lastwords.Words{}, gone: make(chan struct{})}
	s.pulse = newPulse(p.stall, func() {
		s.kill(fmt.Errorf("stalled: less than %d bytes came in %v", trickle, p.stall))
	})
	s.idle = time.AfterFunc(time.Hour, func() { p.tire(s) })
	s.idle.Stop()
	s.cmd = exec.Command(p.ssh, p.args()...)
	s.cmd.Stderr = s.said
	s.cmd.WaitDelay = ending // what it has started may hold its outputs
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, s.died(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, s.died(err)
	}
	s.stdout = stdout
	if err := s.cmd.Start(); err != nil {
		return nil, s.died(err)
	}
	s.unwatch = context.AfterFunc(p.life, func() { s.kill(errClosed) })
	s.pulse.begin()
	s.client, err = sftp.NewClientPipe(s.pulse.reader(stdout), s.pulse.writer(stdin),
		sftp.UseConcurrentWrites(true), sftp.MaxConcurrentRequestsPerFile(64))
	s.pulse.end()
	if err != nil {
		s.reap()
		return nil, s.died(err)
	}
	return s, nil
}

// run returns when the session is over.
func (s *session) run() {
	err := s.client.Wait() // for the end of its output
	s.pool.remove(s)
	s.pulse.stop()
	s.reap()
	s.pulse.calls.Wait()
	s.why = s.died(err)
	close(s.gone)
}

// kill makes the session end.
func (s *session) kill(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed != nil {
		return
	}
	s.killed = why
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.stdout.Close()     // which others may hold open
}

// retire ends a session that has nothing to do: ssh says good-bye.
func (s *session) retire() { _ = s.client.Close() }

// reap waits for the program's end, which its closed input should bring about.
func (s *session) reap() {
	late := time.AfterFunc(ending, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	_ = s.cmd.Wait() // died reads the status
	s.unwatch()
}

// died says why the session has ended; err is what the library saw of that.
func (s *session) died(err error) *deathError {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &deathError{program: s.said.String(), host: s.pool.host, cause: err}
	program := filepath.Base(s.pool.ssh)
	switch state := s.cmd.ProcessState; {
	case s.killed != nil:
		d.text, d.cause = s.killed.Error(), s.killed
	case state == nil: // it could not be started
		d.text = fmt.Sprintf("%s: %v", s.pool.ssh, bare(err))
	case !ended(err):
		d.text = fmt.Sprintf("what comes from %s is no SFTP: %v", program, err)
	case state.Success():
		d.text = program + " has ended"
	default:
		d.text = fmt.Sprintf("%s has ended with %v", program, state)
	}
	return d
}

// ended reports whether a session's pipes were closed at the far end.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, fs.ErrClosed) || errors.Is(err, sftp.ErrSSHFxConnectionLost)
}

// bare takes off the program's name, which is said already.
func bare(err error) error {
	var e *exec.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// leave is for whoever got the session of its pool.
func (s *session) leave() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.load--
	if s.load == 0 {
		s.idle.Reset(s.pool.idle)
	}
}

// spawn calls f in the background; false if the session is over.
func (s *session) spawn(f func()) bool {
	if !s.pulse.begin() {
		return false
	}
	go func() {
		defer s.pulse.end()
		f()
	}()
	return true
}

// call calls f, which asks the server for something, and waits for the answer as
// long as ctx lasts. What comes later is given to late, which may be nil. The error
// is what the server says, or why the session is over.
func call[T any](ctx context.Context, s *session, f func() (T, error), late func(T)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	answers := make(chan answer)
	ok := s.spawn(func() {
		value, err := f()
		s.broken(err)
		select {
		case answers <- answer{value, err}:
		case <-ctx.Done():
			if err == nil && late != nil {
				late(value)
			}
		}
	})
	if !ok {
		return none, s.over(ctx)
	}
	select {
	case a := <-answers:
		if !answered(a.err) {
			return none, s.over(ctx)
		}
		return a.value, a.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// broken ends the session if err is not what the server says of one request. A
// program that ends by itself is given time to say why.
func (s *session) broken(err error) {
	switch {
	case answered(err):
	case ended(err):
		time.AfterFunc(ending, func() { s.kill(err) })
	default:
		s.kill(err)
	}
}

// over waits until the session is, and says why.
func (s *session) over(ctx context.Context) error {
	select {
	case <-s.gone:
		return s.why
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tell is call for what gives nothing but an error.
func (s *session) tell(ctx context.Context, f func() error) error {
	_, err := call(ctx, s, func() (struct{}, error) { return struct{}{}, f() }, nil)
	return err
}
