package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"time"
)

var errStalled = errors.New("stalled")

// A patient transport ends requests in which nothing moves for too long, to the
// server or back.
type patient struct {
	conns nethttp.RoundTripper
	stall time.Duration
}

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(req *nethttp.Request) (*nethttp.Response, error) {
	ctx, end := context.WithCancelCause(req.Context())
	clock := time.AfterFunc(p.stall, func() { end(errStalled) })
	ended := func() {
		clock.Stop()
		end(nil)
	}
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != nethttp.NoBody {
		req.Body = &moving{ReadCloser: req.Body, clock: clock, stall: p.stall, end: func() {}}
	}
	resp, err := p.conns.RoundTrip(req)
	if err != nil {
		defer ended()
		if context.Cause(ctx) == errStalled {
			err = fmt.Errorf("stalled: no answer in %v", p.stall)
		}
		return nil, err
	}
	clock.Reset(p.stall)
	resp.Body = &moving{ReadCloser: resp.Body, clock: clock, stall: p.stall, end: ended}
	return resp, nil
}

// moving is a body that winds the clock.
type moving struct {
	io.ReadCloser
	clock *time.Timer
	stall time.Duration
	end   func()
}

func (m *moving) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.clock.Reset(m.stall)
	}
	return n, err
}

func (m *moving) Close() error {
	defer m.end()
	return m.ReadCloser.Close()
}
