package origin

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// Faults decides what goes wrong with a request: n is its number since Start or
// Reset, from 1. It may be called from many goroutines.
type Faults func(n int64, path string) Fault

// A Fault is what goes wrong with one request. The zero value is nothing.
type Fault struct {
	Kind       Kind
	Status     int           // of Answer
	RetryAfter time.Duration // of Answer, in whole seconds; 0: the header is left out
	At         int64         // where in the body Cut, Flip and Hang happen
}

// A Kind is a way to fail.
type Kind uint8

// The kinds of faults.
const (
	None   Kind = iota
	Answer      // Status instead of the file
	Cut         // the connection ends before byte At
	Flip        // byte At is wrong
	Hang        // byte At never comes, and the connection stays
)

// Every makes a fault of each nth request.
func Every(nth int64, f Fault) Faults {
	return func(n int64, _ string) Fault {
		if n%nth == 0 {
			return f
		}
		return Fault{}
	}
}

// An answer is a file on its way through the link, with one fault.
type answer struct {
	http.ResponseWriter
	ctx    context.Context
	origin *Origin
	fault  Fault
	status int
	sent   int64
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write sends p piece by piece.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	done := 0
	for done < len(p) {
		n, err := a.piece(p[done:min(done+pieceSize, len(p))])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (a *answer) piece(p []byte) (int, error) {
	at := a.fault.At - a.sent
	if at >= 0 && at < int64(len(p)) {
		switch a.fault.Kind {
		case Flip:
			p = append([]byte(nil), p...)
			p[at] ^= 0xff
		case Cut, Hang:
			if at == 0 {
				return 0, a.stop()
			}
			p = p[:at]
		}
	}
	if err := a.origin.link.carry(a.ctx, len(p)); err != nil {
		return 0, err
	}
	a.origin.sent(len(p)) // before the client can have it and look
	n, err := a.ResponseWriter.Write(p)
	a.sent += int64(n)
	return n, err
}

// stop ends the answer here, at once or when the client leaves.
func (a *answer) stop() error {
	if err := http.NewResponseController(a.ResponseWriter).Flush(); err != nil {
		return err
	}
	if a.fault.Kind == Hang {
		<-a.ctx.Done()
	}
	panic(http.ErrAbortHandler) // net/http's way to end a connection
}

// refuse answers with the fault's status.
func (a *answer) refuse() {
	if d := a.fault.RetryAfter; d > 0 {
		a.Header().Set("Retry-After", strconv.FormatInt(int64(d/time.Second), 10))
	}
	http.Error(a, http.StatusText(a.fault.Status), a.fault.Status)
}
