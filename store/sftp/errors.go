package sftp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os/exec"
	"strings"

	"github.com/pkg/sftp"

	"caravel/internal/lastwords"
	"caravel/store"
)

// A failure is why something did not work, and what that means to a store.
type failure struct {
	where string // URL
	why   error
	kind  error // what callers branch on; nil: worth another try
}

func (e *failure) Error() string   { return e.where + ": " + e.why.Error() }
func (e *failure) Unwrap() []error { return []error{e.why, e.kind} }

func (d *Dir) fail(name string, kind error, format string, args ...any) error {
	return &failure{d.Locate(name), fmt.Errorf(format, args...), kind}
}

// failed says what happened to an object. It is no [store.ErrMissing]: that is only
// what cannot be read.
func (d *Dir) failed(name string, err error) error {
	if f := (*failure)(nil); errors.As(err, &f) {
		return err
	}
	f := &failure{where: d.Locate(name), why: err}
	var status *sftp.StatusError
	var died *deathError
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.why, f.kind = fmt.Errorf("the server permits it not: %w", err), store.ErrRefused
	case errors.As(err, &status):
		f.why = said(status)
		if status.FxCode() == sftp.ErrSSHFxOpUnsupported {
			f.kind = store.ErrRefused
		}
	case errors.As(err, &died) && died.final():
		f.kind = store.ErrRefused
	}
	return f
}

// unreadable is failed for an object that may be missing.
func (d *Dir) unreadable(name string, err error) error {
	if missing(err) {
		return d.fail(name, store.ErrMissing, "%w", store.ErrMissing)
	}
	return d.failed(name, err)
}

// missing reports whether err means that there is no such object. For what is said to
// lie in a file some servers have no code of its own.
func missing(err error) bool {
	var status *sftp.StatusError
	return errors.Is(err, fs.ErrNotExist) ||
		errors.As(err, &status) && strings.Contains(strings.ToLower(status.Error()), "not a directory")
}

// said is a server's refusal in its own words.
func said(status *sftp.StatusError) error {
	// The library has the words in quotes, and behind them its own name of the code.
	text := strings.TrimPrefix(status.Error(), "sftp: ")
	return &saidError{"the server says " + lastwords.OneLine(text), status}
}

type saidError struct {
	text   string
	status error
}

func (e *saidError) Error() string { return e.text }
func (e *saidError) Unwrap() error { return e.status }

// answered reports whether err is what a server says of one request: the session
// goes on.
func answered(err error) bool {
	var status *sftp.StatusError
	return err == nil || errors.As(err, &status) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) ||
		errors.Is(err, io.EOF)
}

// A deathError is why a session has ended, or has never begun.
type deathError struct {
	text    string // what happened
	program string // the last that ssh has said; "": nothing
	host    string
	cause   error
}

func (e *deathError) Error() string {
	if e.program == "" {
		return e.text
	}
	return e.text + ": " + e.program
}

// Unwrap gives, besides the cause, the resolver's error for a host that is not
// known: asking again for that is of use only to who has reached it before.
func (e *deathError) Unwrap() []error {
	causes := []error{e.cause}
	if strings.Contains(e.program, "Could not resolve hostname") && !strings.Contains(e.program, "Temporary failure") {
		causes = append(causes, &net.DNSError{Err: "no such host", Name: e.host, IsNotFound: true})
	}
	return causes
}

// final reports whether the next session would end in the same way. ssh says that
// in words only, which are in no other language than English.
func (e *deathError) final() bool {
	if errors.Is(e.cause, exec.ErrNotFound) || errors.Is(e.cause, fs.ErrPermission) || errors.Is(e.cause, fs.ErrNotExist) {
		return true // there is no such program
	}
	for _, text := range []string{
		"Permission denied (", "Host key verification failed", "Too many authentication failures",
		"subsystem request failed", "Bad configuration option", "no matching host key type found",
	} {
		if strings.Contains(e.program, text) {
			return true
		}
	}
	return false
}
