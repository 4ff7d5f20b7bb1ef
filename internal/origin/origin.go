// Package origin is a web server for a folder that behaves like one far away:
// each answer comes a round trip late, all connections share one link, and
// chosen requests fail. Demonstrations, tests and benchmarks read from it and
// count what that took.
//
// It answers conditional requests and ranges as net/http does, with a strong
// ETag for each file.
//
// Its delays are those of an established connection: there is no slow start,
// no loss and no handshake. A relay before it (integration/relay) adds the last.
package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// Options describes the line and the server's moods. The zero value is a server
// nearby without faults.
type Options struct {
	RTT       time.Duration // how late each answer comes
	Bandwidth int64         // of the link, in bytes of files per second; 0: no limit
	Faults    Faults        // nil: none
	Log       *slog.Logger  // each request, at debug level; nil: discard
}

// An Origin is a server on the loopback interface. Its methods may be called
// from many goroutines.
type Origin struct {
	opt    Options
	dir    http.Dir
	files  http.Handler // for what is no file
	link   *link
	server *http.Server
	url    string
	life   context.Context // ended by Close
	kill   context.CancelFunc
	served chan struct{} // closed when the server is done

	mu     sync.Mutex // guards what follows
	open   bool
	counts Counts
	busy   int64          // requests at work
	idle   sync.WaitGroup // waits for them; Add only while open
}

// Counts is what an Origin has seen.
type Counts struct {
	Requests    int64
	Connections int64
	Bytes       int64            // of answers, without headers
	Peak        int64            // most requests at the same time
	Paths       map[string]int64 // requests by path, without query
}

// Start serves a folder until Close.
func Start(dir string, opt Options) (*Origin, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := newOrigin(dir, opt)
	o.url = "http://" + listener.Addr().String()
	o.server = &http.Server{
		Handler:   o,
		ConnState: o.connection,
		ErrorLog:  slog.NewLogLogger(o.opt.Log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(o.served)
		if err := o.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			o.opt.Log.Error("origin stopped", "err", err)
		}
	}()
	return o, nil
}

func newOrigin(dir string, opt Options) *Origin {
	opt.Log = cmp.Or(opt.Log, slog.New(slog.DiscardHandler))
	o := &Origin{
		opt:    opt,
		dir:    http.Dir(dir),
		files:  http.FileServer(http.Dir(dir)),
		link:   newLink(opt.Bandwidth),
		served: make(chan struct{}),
		open:   true,
		counts: Counts{Paths: map[string]int64{}},
	}
	o.life, o.kill = context.WithCancel(context.Background())
	return o
}

// URL is where the folder is, without a slash at the end.
func (o *Origin) URL() string { return o.url }

// SetBandwidth changes that of the link, also for answers on their way.
func (o *Origin) SetBandwidth(bytesPerSecond int64) { o.link.setRate(bytesPerSecond) }

// Counts returns what happened since Start or Reset.
func (o *Origin) Counts() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	counts := o.counts
	counts.Paths = maps.Clone(o.counts.Paths)
	return counts
}

// Reset starts counting anew; open connections are not counted again, and the
// next request is the first one for Faults.
func (o *Origin) Reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts = Counts{Paths: map[string]int64{}, Peak: o.busy}
}

// Close drops all connections and returns when no request is at work any more.
func (o *Origin) Close() error {
	o.mu.Lock()
	o.open = false
	o.mu.Unlock()
	o.kill()
	err := o.server.Close()
	<-o.served
	o.idle.Wait()
	return err
}

// ServeHTTP answers one request.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := o.arrive(r)
	defer o.leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(o.life, cancel)()

	began := time.Now()
	var fault Fault
	if o.opt.Faults != nil {
		fault = o.opt.Faults(n, r.URL.Path)
	}
	if !sleep(ctx, o.opt.RTT+fault.Late) {
		return
	}
	a := &answer{ResponseWriter: w, ctx: ctx, origin: o, fault: fault}
	defer func() {
		if !o.opt.Log.Enabled(ctx, slog.LevelDebug) {
			return
		}
		o.opt.Log.Debug("request", "n", n, "method", r.Method, "path", r.URL.Path,
			"range", r.Header.Get("Range"), "status", a.status, "bytes", a.sent, "dur", time.Since(began))
	}()
	if fault.Kind == Answer {
		a.refuse()
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream") // else it is guessed from the bytes
	o.file(a, r)
}

// file answers with a file, or whatever net/http has to say of other things.
func (o *Origin) file(a *answer, r *http.Request) {
	f, err := o.dir.Open(path.Clean("/" + r.URL.Path))
	if err != nil {
		o.files.ServeHTTP(a, r)
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || strings.HasSuffix(r.URL.Path, "/") {
		o.files.ServeHTTP(a, r)
		return
	}
	a.Header().Set("ETag", tag(fi))
	http.ServeContent(a, r, "", fi.ModTime(), f)
}

// tag is a file's ETag: another one has another size or time.
func tag(fi fs.FileInfo) string {
	return fmt.Sprintf(`"%x-%x"`, fi.ModTime().UnixNano(), fi.Size())
}

// arrive counts a request and returns its number, the first one being 1.
func (o *Origin) arrive(r *http.Request) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open {
		panic(http.ErrAbortHandler)
	}
	o.idle.Add(1)
	o.busy++
	c := &o.counts
	c.Requests++
	c.Peak = max(c.Peak, o.busy)
	c.Paths[r.URL.Path]++
	return c.Requests
}

func (o *Origin) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy--
	o.idle.Done()
}

func (o *Origin) sent(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts.Bytes += int64(n)
}

// connection counts new connections.
func (o *Origin) connection(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.counts.Connections++
	}
}

// sleep reports whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
