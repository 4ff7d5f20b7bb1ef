package http

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	nethttp "net/http"
	"strconv"
	"strings"
	"time"

	"caravel/store"
)

// A failure is why a request did not give what was asked for.
type failure struct {
	where string // the URL, without secrets
	why   error
	kind  error // what callers branch on; nil: worth another try
}

func (e *failure) Error() string   { return e.where + ": " + e.why.Error() }
func (e *failure) Unwrap() []error { return []error{e.why, e.kind} }

func (b *body) fail(kind error, format string, args ...any) error {
	return &failure{where: b.where(), why: fmt.Errorf(format, args...), kind: kind}
}

// A refusal is a redirect that is not followed.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

// noAnswer says why there is no answer; err is the transport's word for it.
func (b *body) noAnswer(err error) error {
	if cause := context.Cause(b.ctx); cause != nil {
		err = cause
	}
	if err == errStalled {
		err = fmt.Errorf("stalled: no answer in %v", b.stall)
	}
	var kind error
	var (
		redirect *refusal
		noTLS    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &redirect), Untrusted(err):
		kind = store.ErrRefused
	case errors.As(err, &noTLS) && string(noTLS.RecordHeader[:]) == "HTTP/":
		err, kind = errors.New("the server speaks http there, not https"), store.ErrRefused
	}
	return &failure{where: b.where(), why: err, kind: kind}
}

// Untrusted reports whether a transport's error is that of a server which is not trusted,
// or does not trust us: the next try would meet it, too.
func Untrusted(err error) bool {
	var (
		untrust *tls.CertificateVerificationError
		op      *net.OpError
	)
	// An alert of TLS is, mostly, that our certificate will not do.
	return errors.As(err, &untrust) || errors.As(err, &op) && op.Op == "remote error"
}

// refuse is the error for an answer whose status is not the one hoped for.
func (b *body) refuse(resp *nethttp.Response) error {
	code, status := resp.StatusCode, b.status(resp)
	switch code {
	case nethttp.StatusNotFound, nethttp.StatusGone:
		return b.fail(store.ErrMissing, "%s", status)
	case nethttp.StatusUnauthorized:
		return b.fail(store.ErrRefused, "%s; %s", status, b.advice(resp))
	case nethttp.StatusTooManyRequests, nethttp.StatusServiceUnavailable:
		return &store.BusyError{After: retryAfter(resp.Header, time.Now()), Err: b.fail(nil, "%s", status)}
	case nethttp.StatusRequestTimeout, nethttp.StatusTooEarly:
		return b.fail(nil, "%s", status)
	}
	if code >= 500 {
		return b.fail(nil, "%s", status)
	}
	return b.fail(store.ErrRefused, "%s", status)
}

// status is what a server has answered, for people.
func (b *body) status(resp *nethttp.Response) string {
	status := strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + nethttp.StatusText(resp.StatusCode))
	if line := b.firstLine(resp); line != "" {
		return fmt.Sprintf("%s: %q", status, line)
	}
	return status
}

// firstLine is what a server says for people, if it says it in plain text.
func (b *body) firstLine(resp *nethttp.Response) string {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "text/plain" || resp.Body == nethttp.NoBody {
		return ""
	}
	b.quiet = min(errorTime, b.stall)
	lines := bufio.NewScanner(io.LimitReader(b, 200))
	lines.Scan() // a broken line is as good as none
	return strings.TrimSpace(lines.Text())
}

// retryAfter reads a Retry-After header: seconds, or a date by the server's own
// clock.
func retryAfter(h nethttp.Header, now time.Time) time.Duration {
	const longest = 24 * time.Hour
	text := h.Get("Retry-After")
	if seconds, err := parseNumber(text); err == nil {
		return time.Duration(min(seconds, int64(longest/time.Second))) * time.Second
	}
	at, err := nethttp.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := nethttp.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), longest)
}
