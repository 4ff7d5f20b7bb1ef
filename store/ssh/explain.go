package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"

	"caravel/castp"
	"caravel/store"
)

// Statuses with which ssh and shells end.
const (
	statusSSH      = 255 // ssh itself failed
	statusNotFound = 127 // there is no such command
)

// What is in an ABORT are Linux's numbers, of ENOENT and EACCES.
const (
	enoent = 2
	eacces = 13
)

// notStarted says why there is no process.
func notStarted(p place, err error) error {
	switch {
	case p.scheme != "":
		return refused(p.String(), "%v", err)
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return refused(p.String(), "there is no %s here; install ssh (openssh-client), or name another with $CASYNC_SSH_PATH", localProgram())
	}
	return fmt.Errorf("ssh: %s: %w", p, err)
}

// explain makes the session's error of why it ended and how its process did; nil if
// that was agreed upon.
func (s *session) explain(err, exit error) error {
	s.mu.Lock()
	cause := s.cause
	s.mu.Unlock()
	said := s.stderr.String()
	with := ""
	if said != "" {
		with = fmt.Sprintf(" (%s)", said)
	}
	if cause != nil {
		return fmt.Errorf("ssh: %s: %w%s", s.where, cause, with)
	}
	status := 0
	if e := (*exec.ExitError)(nil); errors.As(exit, &e) {
		status = e.ExitCode()
	}
	abort := (*castp.AbortError)(nil)
	aborted := errors.As(err, &abort)
	switch {
	case err == nil && s.strict && exit != nil && !errors.Is(exit, exec.ErrWaitDelay):
		return fmt.Errorf("ssh: %s: %w%s", s.where, exit, with)
	case err == nil:
		return nil
	case s.file && (aborted && abort.Code == enoent || errors.Is(err, errEnded) && strings.Contains(said, "No such file or directory")):
		return &failure{fmt.Sprintf("ssh: %s: %v%s", s.where, store.ErrMissing, with), []error{store.ErrMissing, err}}
	case aborted && (abort.Code == eacces || !s.wasReady()):
		return refused(s.where, "%v%s", err, with)
	case !errors.Is(err, errEnded):
		return fmt.Errorf("ssh: %s: %w%s", s.where, err, with)
	case status == statusNotFound:
		return refused(s.where, "there is no %s on the far side%s; install casync or caravel there, or name another with $CASYNC_REMOTE_PATH", remoteProgram(), with)
	case status == statusSSH && hopeless(said):
		return refused(s.where, "%s", said)
	case status == statusSSH && said != "":
		return fmt.Errorf("ssh: %s: %s", s.where, said)
	case status > 0 && !s.wasReady():
		return refused(s.where, "the far side ended with status %d%s", status, with)
	}
	return fmt.Errorf("ssh: %s: %w%s", s.where, err, with)
}

func (s *session) wasReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// hopeless reports whether what ssh says will be the same again.
func hopeless(said string) bool {
	for _, text := range []string{"Permission denied", "Host key verification failed", "Could not resolve hostname", "Bad configuration option"} {
		if strings.Contains(said, text) {
			return true
		}
	}
	return false
}
