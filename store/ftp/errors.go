package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"time"

	"github.com/jlaffaye/ftp"

	"caravel/store"
)

// A failure is why something did not work, and what that means to a store.
type failure struct {
	where string // URL, without a password
	why   error
	kind  error // what callers branch on; nil: worth another try
}

func (e *failure) Error() string   { return e.where + ": " + e.why.Error() }
func (e *failure) Unwrap() []error { return []error{e.why, e.kind} }

// A refusal is an error of ours with its kind.
type refusal struct {
	text string
	kind error
}

func (e *refusal) Error() string { return e.text }
func (e *refusal) Unwrap() error { return e.kind }

// gone is err, or that there is no such object if that is what a server means. It
// has one code for that and for much else, and says more in words only.
func gone(err error) error {
	var said *textproto.Error
	if errors.As(err, &said) && said.Code == ftp.StatusFileUnavailable && !strings.Contains(strings.ToLower(said.Msg), "permission") {
		return &refusal{store.ErrMissing.Error(), store.ErrMissing}
	}
	return err
}

// answered reports whether err is what a server says of one command: the connection
// can be used further.
func answered(err error) bool {
	var said *textproto.Error
	return err == nil || errors.As(err, &said) && said.Code != ftp.StatusNotAvailable
}

// failed says what happened to an object.
func (d *Dir) failed(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	f := &failure{where: d.Locate(name), why: err}
	var (
		said    *textproto.Error
		ours    *refusal
		untrust *tls.CertificateVerificationError
		timeout net.Error
	)
	switch {
	case errors.As(err, &ours):
		f.kind = ours.kind
	case errors.As(err, &said):
		f.why = fmt.Errorf("the server says %d %q", said.Code, said.Msg)
		switch {
		case said.Code == ftp.StatusNotAvailable:
			return &store.BusyError{After: time.Second, Err: f}
		case said.Code >= 500 && said.Code != ftp.StatusExceededStorage:
			f.kind = store.ErrRefused
		}
	case errors.As(err, &untrust):
		f.kind = store.ErrRefused
	case ctx.Err() != nil:
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		f.why = fmt.Errorf("stalled: less than %d bytes came in %v", trickle, d.pool.stall)
	}
	return f
}
