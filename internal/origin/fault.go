package origin

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
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
	At         int64         // where in the body Cut, Reset, Flip and Hang happen
	Late       time.Duration // how much later than others the answer comes, of any kind
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
	Reset       // the connection is reset before byte At
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

// Odds is how often a fault happens.
type Odds struct {
	Chance float64 // of a request, from 0 to 1
	Fault  Fault
	Within int64 // At is anywhere before; 0: it is what Fault says
}

// Random makes each fault as often as its odds say, one at most of a request.
// What happens to the nth request depends on the seed alone.
func Random(seed uint64, odds ...Odds) Faults {
	return func(n int64, _ string) Fault {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		for draw, i := r.Float64(), 0; i < len(odds); i++ {
			if draw -= odds[i].Chance; draw >= 0 {
				continue
			}
			f := odds[i].Fault
			if odds[i].Within > 0 {
				f.At = r.Int64N(odds[i].Within)
			}
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
		n, err := a.piece(p[done:min(done+a.origin.link.piece(), len(p))])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// ReadFrom has the system send a file, without a copy here, as long as nothing
// is to become of its bytes.
func (a *answer) ReadFrom(r io.Reader) (sent int64, err error) {
	direct, ok := a.ResponseWriter.(io.ReaderFrom)
	file, known := r.(*io.LimitedReader)
	if !ok || !known || a.fault.Kind != None {
		return io.Copy(struct{ io.Writer }{a}, r)
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	for file.N > 0 {
		part := &io.LimitedReader{R: file.R, N: min(file.N, int64(a.origin.link.piece()))}
		size := part.N
		if err := a.origin.link.carry(a.ctx, int(size)); err != nil {
			return sent, err
		}
		a.origin.sent(int(size)) // before the client can have it and look
		n, err := direct.ReadFrom(part)
		sent += n
		a.sent += n
		file.N -= n
		if err != nil || n < size {
			return sent, err
		}
	}
	return sent, nil
}

func (a *answer) piece(p []byte) (int, error) {
	at := a.fault.At - a.sent
	if at >= 0 && at < int64(len(p)) {
		switch a.fault.Kind {
		case Flip:
			p = append([]byte(nil), p...)
			p[at] ^= 0xff
		case Cut, Hang, Reset:
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
	control := http.NewResponseController(a.ResponseWriter)
	if err := control.Flush(); err != nil {
		return err
	}
	switch a.fault.Kind {
	case Hang:
		<-a.ctx.Done()
	case Reset:
		conn, _, err := control.Hijack()
		if err != nil {
			return err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			err = tcp.SetLinger(0) // then closing it resets it
		}
		return errors.Join(err, conn.Close(), errReset)
	}
	panic(http.ErrAbortHandler) // net/http's way to end a connection
}

var errReset = errors.New("connection reset")

// refuse answers with the fault's status.
func (a *answer) refuse() {
	if d := a.fault.RetryAfter; d > 0 {
		a.Header().Set("Retry-After", strconv.FormatInt(int64(d/time.Second), 10))
	}
	http.Error(a, http.StatusText(a.fault.Status), a.fault.Status)
}
