// Package server serves chunks, indexes and folders of images over HTTP, to
// strangers.
//
// What is served is a handler: [NewChunks] of a store, [NewIndexes] of a backend,
// [NewFolders] of directories. A [Server] has them answer, and keeps those who
// connect from doing harm:
//
//	chunks := server.NewChunks(s, server.ChunkOptions{Writer: w})
//	srv, err := server.New(chunks, server.Options{Auth: auth, Log: log})
//	err = srv.Serve(ctx, listener)
//
// The handlers' rules are those of docs/formats.md, 9.2 and 9.3. Whatever is sent
// has a length and a tag, and can be had in ranges; a chunk, whose name says what it
// is, may be kept by caches for ever, and all else is to be asked for again, which
// costs no more than a question whether it has changed.
//
// # What a stranger may take
//
// The number of connections is limited, and when there is no room one that does
// nothing goes, the longest idle first: so 10,000 that send their headers a byte at
// a time keep nobody out. A client has to take each MiB of an answer, and to send its
// headers and its body, within a time. A body is never longer than what it can be, a
// chunk's limit, and one that says that it is gets no further than its headers.
// Bodies on their way share a budget, and so do their unpacking and its memory.
//
// # As fast as a web server of files
//
// A chunk that lies in a folder in the form that is asked for goes out as nginx does
// it: what is between the kernel's page cache and the socket is not looked at, so it is
// not verified. That is desync's way, too, and the reader verifies it in any case.
// Where that is not wanted, leave [ChunkOptions].Files out: each chunk is then verified
// before it is sent.
//
// On Linux such chunks have a short way, as net/http costs more than all the rest: a
// second goroutine for each request, to notice a client that goes away, and with
// package os four more system calls. In the clear, a connection is first read by a loop
// of our own. It answers GET of a chunk by HTTP/1.1 with a whole head, of headers that
// change nothing, and does it with open, fstat, pread and close of the file and one
// write of head and chunk. Whatever else comes, and if it is but a second space, goes
// to net/http, with the bytes that were read, and so does all that follows on that
// connection. No request is understood by two parsers, and the short one takes nothing
// of which net/http would think otherwise: a fuzzer sends the same to servers with and
// without it and compares every byte. The limits above hold for it as well.
//
// Of 64 clients on the same machine (two processors, chunks of 20 KB; the benchmark
// chunk-server of integration/bench), a chunk costs nginx 29 to 35 µs of a processor,
// net/http in our place 80, and the short way 38 to 48: 0.6 and about 0.85 of nginx's
// chunks in the same time.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options tunes a Server. The zero value is a good choice.
type Options struct {
	Auth  *Auth          // nil: everybody is served
	TLS   *tls.Config    // nil: in the clear
	Conns int            // most connections at a time; 0: 4096
	Grace time.Duration  // how long requests may go on when the server is to end; 0: 10 s
	Stall time.Duration  // how long a client may take for its headers, its first bytes of a body, or a MiB of an answer; 0: 30 s
	Gauge func() []Gauge // further figures for /metrics, at this moment; nil: none

	Requests *log.Logger  // a line for each request, as desync writes them; nil: none
	Log      *slog.Logger // nil: discard
}

// How long a connection may do nothing, and how long its headers may be.
const (
	idle       = 2 * time.Minute
	headerSize = 16 << 10
)

// A Server answers requests by a handler. Besides, it has /healthz, for those who
// watch whether it lives, and /metrics, in the text format of Prometheus.
type Server struct {
	opt     Options
	inner   http.Handler // what is served
	handler http.Handler // that and the server's own, for who may be served
	conns   *conns
	metrics metrics
}

// New makes a server.
func New(handler http.Handler, opt Options) *Server {
	opt.Conns = cmp.Or(opt.Conns, 4096)
	opt.Grace = cmp.Or(opt.Grace, 10*time.Second)
	opt.Stall = cmp.Or(opt.Stall, 30*time.Second)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: opt, inner: handler, conns: newConns(opt.Conns)}
	s.metrics.began = time.Now()
	known := http.NewServeMux()
	known.HandleFunc("/healthz", healthz)
	known.Handle("/metrics", opt.Auth.guard(http.HandlerFunc(s.serveMetrics)))
	guarded := opt.Auth.guard(handler)
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/metrics": // never by a mux, which would clean other paths
			known.ServeHTTP(w, r)
		default:
			guarded.ServeHTTP(w, r)
		}
	})
	return s
}

func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // who asked may have gone
}

// Serve accepts clients on the listeners, which it closes, until ctx ends, and
// returns when those requests that were under way are answered, or the grace is over
// and they are cut. It is called once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	h, front := s.newHTTP(), newFront(s)
	all, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		l = s.conns.limit(l)
		if front != nil {
			l = front.listen(l)
		}
		all.Go(func() error {
			var err error
			if s.opt.TLS != nil {
				err = h.ServeTLS(l, "", "")
			} else {
				err = h.Serve(l)
			}
			if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
				return nil
			}
			return err
		})
	}
	<-ctx.Done()
	s.conns.close()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opt.Grace)
	defer cancel()
	if front != nil {
		h.SetKeepAlivesEnabled(false) // meanwhile
		front.end(grace)
	}
	if h.Shutdown(grace) != nil {
		s.opt.Log.Warn("requests cut off", "after", s.opt.Grace)
		_ = h.Close() // it is over either way
	}
	s.conns.wait()
	return all.Wait()
}

func (s *Server) newHTTP() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // only for who begins with it, as proxies that were told to
	return &http.Server{
		Handler:           http.HandlerFunc(s.answer),
		TLSConfig:         s.opt.TLS,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 256, WriteByteTimeout: s.opt.Stall},
		ReadHeaderTimeout: s.opt.Stall,
		IdleTimeout:       idle,
		MaxHeaderBytes:    headerSize,
		ConnState:         s.conns.changed,
		ConnContext:       s.conns.context,
		ErrorLog:          slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug), // what strangers do wrong
	}
}
