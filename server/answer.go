package server

import (
	"io"
	"net/http"
	"time"
)

// answer serves one request, within the limits that hold for all.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	one, _ := r.Context().Value(connKey{}).(*conn)
	s.conns.begin(one)
	defer s.conns.end(one)
	began := time.Now()
	a := &answer{ResponseWriter: w, control: http.NewResponseController(w), stall: s.opt.Stall}
	if one != nil && r.ProtoMajor == 1 { // then requests follow one another, and have one deadline
		a.until = one.until
		defer func() { one.until = a.until }()
	}
	a.arm()
	if r.ContentLength != 0 {
		// Also for the rest of a body that nobody reads, which net/http looks at.
		_ = a.control.SetReadDeadline(began.Add(s.opt.Stall)) // without, there is a limit of connections
	}
	defer func() { // also of a handler that gives up by a panic
		s.metrics.count(request{r.Method, a.sent()}, a.bytes, time.Since(began))
		if s.opt.Requests != nil {
			s.note(r.RemoteAddr, r.Method, r.URL.EscapedPath(), a.sent())
		}
	}()
	s.handler.ServeHTTP(a, r)
}

// note writes a line of the log of requests.
func (s *Server) note(client, method, path string, status int) {
	s.opt.Requests.Printf("Client: %s, Request: %s %s, Response: %d", client, method, path, status)
}

// An answer is a response on its way: it counts what is sent, and cuts off who takes
// too long for it.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	until   time.Time // the deadline that is set
	status  int       // 0: not yet said
	bytes   int64     // of its body
}

// pace is what has to be taken within the time of a stall.
const pace = 1 << 20

// arm gives the client more time. What is left of most of it is left as it is: to set
// a deadline costs about as much as to send a small file.
func (a *answer) arm() {
	now := time.Now()
	if a.until.Sub(now) > a.stall*3/4 {
		return
	}
	a.until = now.Add(a.stall)
	_ = a.control.SetWriteDeadline(a.until) // in a test there is no connection
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (n int, err error) {
	for err == nil && (len(p) > 0 || n == 0) {
		a.arm()
		var wrote int
		wrote, err = a.ResponseWriter.Write(p[:min(len(p), pace)])
		n += wrote
		p = p[wrote:]
		if wrote == 0 {
			break
		}
	}
	a.bytes += int64(n)
	return n, err
}

// ReadFrom has net/http send a file by sendfile, if it can, a piece at a time.
func (a *answer) ReadFrom(src io.Reader) (n int64, err error) {
	to, ok := a.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{a}, src)
	}
	whole, ok := src.(*io.LimitedReader)
	if !ok {
		whole = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	for err == nil && whole.N > 0 {
		a.arm()
		piece := &io.LimitedReader{R: whole.R, N: min(whole.N, pace)}
		want := piece.N
		var sent int64
		sent, err = to.ReadFrom(piece)
		n += sent
		whole.N -= sent
		if sent < want {
			break
		}
	}
	a.bytes += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// sent is the status that the client was told.
func (a *answer) sent() int {
	if a.status == 0 {
		return http.StatusOK
	}
	return a.status
}
