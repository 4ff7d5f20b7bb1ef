package nbd

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/bits"
	"net"
	"sync"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// A Reader has an export's bytes. Its methods may be called from many
// goroutines; the context ends when the client is gone.
type Reader interface {
	// ReadAt has io.ReaderAt's rules. An error is EIO for that one request.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// A Sparse reader knows where its holes are. Its exports offer the metadata
// context base:allocation, and reads of holes send no bytes.
type Sparse interface {
	// Holes yields offset and length of the holes that touch the n bytes at
	// off, in order; they may be adjacent. All else counts as data. It must
	// not wait for anything.
	Holes(off, n int64) iter.Seq2[int64, int64]
}

// A Wanter takes hints of what will be read soon; its exports offer CACHE.
type Wanter interface {
	// Want says that the n bytes at off will be read. It must not wait.
	Want(off, n int64)
}

// An Export is what a client sees under one name.
type Export struct {
	Name        string
	Description string // for people; may be empty
	Size        int64  // in bytes, exact
	Reader      Reader // may be Sparse and a Wanter
	Preferred   int    // the block size at which reads are efficient, a power of two from 512 to 32 MiB; 0: 4096
}

// Options tunes a server. The zero value is a good choice.
type Options struct {
	Negotiation time.Duration // a client must have chosen its export by then; 0: 10 s
	Grace       time.Duration // for the requests in flight when the server ends; 0: 10 s
	Conns       int           // connections at a time, more wait to be accepted; 0: 1024
	Requests    int           // in flight on one connection; 0: 128
	ConnMemory  int64         // bytes of replies in the making on one connection, at least 32 MiB; 0: 64 MiB
	Memory      int64         // the same over all connections, at least 32 MiB, beside 128 KiB that each has for itself; 0: 256 MiB
	Log         *slog.Logger  // nil: discard
}

func (o Options) filled() (Options, error) {
	o.Negotiation = cmp.Or(o.Negotiation, 10*time.Second)
	o.Grace = cmp.Or(o.Grace, 10*time.Second)
	o.Conns = cmp.Or(o.Conns, 1024)
	o.Requests = cmp.Or(o.Requests, 128)
	o.ConnMemory = cmp.Or(o.ConnMemory, 64<<20)
	o.Memory = cmp.Or(o.Memory, 256<<20)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	switch {
	case o.Negotiation < 0 || o.Grace < 0:
		return o, fmt.Errorf("nbd: negative time limit (negotiation %v, grace %v)", o.Negotiation, o.Grace)
	case o.Conns < 0 || o.Requests < 0:
		return o, fmt.Errorf("nbd: negative limit (%d connections, %d requests)", o.Conns, o.Requests)
	case o.ConnMemory < maxPayload || o.Memory < maxPayload:
		return o, fmt.Errorf("nbd: %d bytes for a connection and %d for all: each must hold one request of %d", o.ConnMemory, o.Memory, maxPayload)
	}
	return o, nil
}

// A Server serves exports to any number of clients.
type Server struct {
	opt     Options
	exports []*export
	byName  map[string]*export
	memory  *pool
	buffers buffers
	jobs    sync.Pool // of *job

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

// An export is an Export with what its reader can do besides.
type export struct {
	Export
	sparse Sparse // nil: holes are not known
	wanter Wanter // nil: no hints
}

// NewServer makes a server of exports. The first one is also what a client
// gets that asks for the default, which is the empty name, unless an export is
// called that.
func NewServer(exports []Export, opt Options) (*Server, error) {
	opt, err := opt.filled()
	if err != nil {
		return nil, err
	}
	if len(exports) == 0 {
		return nil, fmt.Errorf("nbd: no export")
	}
	s := &Server{opt: opt, byName: make(map[string]*export), conns: make(map[*conn]struct{})}
	s.memory = newPool(opt.Memory, s.shed)
	for _, e := range exports {
		if err := e.check(); err != nil {
			return nil, err
		}
		if s.byName[e.Name] != nil {
			return nil, fmt.Errorf("nbd: export %q: given twice", e.Name)
		}
		x := &export{Export: e}
		x.Preferred = cmp.Or(x.Preferred, 4096)
		x.sparse, _ = e.Reader.(Sparse)
		x.wanter, _ = e.Reader.(Wanter)
		s.byName[e.Name] = x
		s.exports = append(s.exports, x)
	}
	if s.byName[""] == nil {
		s.byName[""] = s.exports[0]
	}
	return s, nil
}

func (e Export) check() error {
	switch {
	case len(e.Name) > maxName || len(e.Description) > maxName:
		return fmt.Errorf("nbd: export %.40q…: name or description over %d bytes", e.Name, maxName)
	case e.Reader == nil:
		return fmt.Errorf("nbd: export %q: no reader", e.Name)
	case e.Size < 0:
		return fmt.Errorf("nbd: export %q: size %d", e.Name, e.Size)
	case e.Preferred != 0 && (e.Preferred < 512 || e.Preferred > maxPayload || bits.OnesCount(uint(e.Preferred)) != 1):
		return fmt.Errorf("nbd: export %q: preferred block size %d: want a power of two from 512 to %d", e.Name, e.Preferred, maxPayload)
	}
	return nil
}

// flags are the transmission flags of the export.
func (e *export) flags(structured bool) uint16 {
	f := protocol.NEGOTIATION_REPLY_FLAGS_HAS_FLAGS | flagReadOnly | protocol.NEGOTIATION_REPLY_FLAGS_CAN_MULTI_CONN
	if structured {
		f |= flagSendDF
	}
	if e.wanter != nil {
		f |= flagSendCache
	}
	return f
}

// Serve accepts clients until ctx ends or listener fails, and closes the
// listener. When ctx ends, requests that have arrived are still answered, for
// the time of grace at most; then Serve returns nil.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	// Ends the clients, too, if it is the listener that fails.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()

	slots := make(chan struct{}, s.opt.Conns)
	for s.takeSlot(ctx, slots) {
		nc, err := accept(ctx, listener, s.opt.Log)
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("nbd: accept on %s: %w", listener.Addr(), err)
		}
		clients.Go(func() {
			defer func() { <-slots }()
			if err := s.ServeConn(ctx, nc); err != nil {
				s.opt.Log.Debug("nbd: connection ended", "err", err)
			}
		})
	}
	return nil
}

// takeSlot waits for one connection to end if there are as many as may be. It
// reports false when ctx has ended.
func (s *Server) takeSlot(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	s.opt.Log.Warn("nbd: no more connections accepted until one ends", "limit", s.opt.Conns)
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
