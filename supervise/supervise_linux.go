package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// Options tunes Run. The zero value is a good choice.
type Options struct {
	Replace <-chan os.Signal // asks for another worker in the place of the one that runs; nil: nobody does
	Forward <-chan os.Signal // what the worker that runs is sent, if one does; nil: nothing
	Pause   time.Duration    // before a worker that crashed soon again is started; doubled each time; 0: 100 ms
	Longest time.Duration    // that this pause becomes, and how long a worker must run to be well; 0: 10 s
	Log     *slog.Logger     // nil: discard
}

// An ExitError is how a worker ended that is not started again.
type ExitError struct{ Status int }

func (e *ExitError) Error() string {
	return fmt.Sprintf("supervise: worker ended with status %d", e.Status)
}

// Run starts the worker that command makes, a new one each time, and starts the
// next one when it crashes. It returns when the worker ends with status 0 by
// itself, when the first one ends before it has left anything, and when ctx ends:
// then the worker is sent SIGTERM and waited for. A status other than 0 is an
// [ExitError].
func Run(ctx context.Context, command func() *exec.Cmd, opt Options) error {
	r := &runner{Options: opt, command: command}
	r.Pause = cmp.Or(opt.Pause, 100*time.Millisecond)
	r.Longest = cmp.Or(opt.Longest, 10*time.Second)
	r.Log = cmp.Or(opt.Log, slog.New(slog.DiscardHandler))
	defer func() { r.legacy.Close() }()
	pause := time.Duration(0)
	for {
		began := time.Now()
		end, err := r.one(ctx)
		if err != nil && (!r.well || ctx.Err() != nil) {
			return err
		}
		if end.final {
			return end.error()
		}
		switch {
		case err != nil: // the program may be about to be replaced
			end.how = err.Error()
		case end.replaced:
			pause = 0
			r.Log.Info("worker gave way to another one")
			continue
		case time.Since(began) >= r.Longest:
			pause = 0
		}
		r.Log.Warn("worker is started again", "ended", end.how, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return end.error()
		}
		pause = min(max(2*pause, r.Pause), r.Longest)
	}
}

type runner struct {
	Options
	command func() *exec.Cmd
	legacy  Legacy // of the last worker that left one
	well    bool   // a worker has left something
}

// An end is how a worker ended.
type end struct {
	state    *os.ProcessState // nil: it did not start
	how      string           // for people
	replaced bool             // as it was asked to
	final    bool             // there is to be no other
}

func (e end) error() error {
	if e.state == nil || e.state.Success() {
		return nil
	}
	status := e.state.ExitCode()
	if status < 0 {
		return fmt.Errorf("supervise: worker: %v", e.state)
	}
	return &ExitError{status}
}

// one runs a worker to its end.
func (r *runner) one(ctx context.Context) (end, error) {
	select {
	case <-r.Forward: // it was meant for the one before
	default:
	}
	w, err := r.start()
	if err != nil {
		return end{}, err
	}
	defer w.line.Close()
	ended := make(chan struct{})
	go func() {
		_ = w.cmd.Wait() // the state says it
		close(ended)
	}()
	left := make(chan Legacy)
	go w.listen(left)

	var e end
	again := false // to be asked once more, when there is an answer
	stop := ctx.Done()
	for left != nil {
		select {
		case <-stop:
			stop, e.final = nil, true
			_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
		case <-r.Replace:
			if again = e.replaced; !again {
				e.replaced = true
				_ = send(w.line, Legacy{})
			}
		case sig := <-r.Forward:
			_ = w.cmd.Process.Signal(sig)
		case l, ok := <-left:
			switch {
			case !ok:
				left = nil
			case l.stays:
				l.Close()
				if e.replaced, again = again, false; e.replaced {
					_ = send(w.line, Legacy{})
				}
			default:
				r.legacy.Close()
				r.legacy, r.well = l, true
			}
		case <-ended:
			ended = nil // what it left is still to be read
		}
	}
	for ended != nil { // it has closed the line, and may take its time
		select {
		case <-stop:
			stop, e.final = nil, true
			_ = w.cmd.Process.Signal(syscall.SIGTERM)
		case <-ended:
			ended = nil
		}
	}
	e.state = w.cmd.ProcessState
	e.how = e.state.String()
	e.replaced = e.replaced && e.state.Success()
	e.final = e.final || !r.well || e.state.Success() && !e.replaced
	if !e.replaced {
		r.drop() // nobody knows what it has read of them
	}
	return e, nil
}

// drop closes the files that were left, unless they are to be kept.
func (r *runner) drop() {
	if !r.legacy.Keep {
		r.legacy.Close()
		r.legacy.Files = nil
	}
}

// A worker runs.
type worker struct {
	cmd  *exec.Cmd
	line *net.UnixConn
}

// start starts a worker and gives it what the one before has left.
func (r *runner) start() (*worker, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := r.command()
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, variable+"="+strconv.Itoa(3+len(cmd.ExtraFiles)))
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	// A group of its own: what is typed at a terminal reaches the supervisor.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = send(ours, r.legacy)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("supervise: %w", err)
	}
	r.drop() // they are the new worker's from now on
	return &worker{cmd, ours}, nil
}

// listen passes on what the worker leaves, until it is gone.
func (w *worker) listen(left chan<- Legacy) {
	defer close(left)
	for {
		l, err := receive(w.line)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				l.Close()
			}
			return
		}
		left <- l
	}
}
