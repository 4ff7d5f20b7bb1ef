// Package nbd serves disks to NBD clients: qemu, libnbd's programs, fio,
// nbd-client and the kernel.
//
// An [Export] is a name, a size and a [Reader]; a [Server] has any number of
// them. What a reader can do besides (be written to, say where its holes are and
// what of it is here, take hints) is found by assertion, once, in [NewServer]:
//
//	s, err := nbd.NewServer([]nbd.Export{{Name: "disk", Size: size, Reader: r}}, nbd.Options{})
//	...
//	err = s.Serve(ctx, listener)
//
// It speaks the fixed newstyle negotiation with EXPORT_NAME, LIST, INFO, GO,
// ABORT, STARTTLS, STRUCTURED_REPLY and two metadata contexts, base:allocation
// and caravel:cached (bit 0: reading it takes no network); other options are
// answered ERR_UNSUP. The requests of a connection run at the same time and are
// answered in any order. A range that cannot be read is EIO for the requests
// that touch it (with structured replies: at which offset), and the connection
// goes on. What a client can make the server hold is bounded ([Options]).
//
// A client is sent away
//   - that has not chosen its export in the time of negotiation;
//   - that takes no replies, or does not send what it has begun to write, at 1 MiB/s
//     and 5 s more, while others wait for memory or to be served;
//   - that still negotiates after 250 ms while others wait to be served;
//   - that has had no request under way for at least 10 s, while another one waits to
//     be served and nobody negotiates: one client makes way for one, first from the
//     address that holds the most connections (of IPv6, the network of 64 bits; all
//     who come by Unix sockets are one), and of those the one idle longest;
//   - that breaks the protocol so that it is unknown where its next words begin, sends
//     too many options, or asks by EXPORT_NAME, which knows no error, for what it does
//     not get.
//
// While there is room for all, a client may be idle for as long as it likes. One that
// asks for something at least every 10 s stays, whatever it means by that.
//
// An export whose reader is a [Writer] takes WRITE, WRITE_ZEROES, TRIM, FLUSH and
// FUA; all others are read-only, and answer what would change them EPERM. A write
// may be as long as a read, 32 MiB; a longer one ends the connection, for its
// payload would have to be read to find the next request. FAST_ZERO is not
// offered: a Writer has no way to say that zeros would be slow.
//
// Extended headers are left out because no client here could test them: libnbd
// has them from 1.18 on, Debian 12 has 1.14.
//
// Of the public test suites none is in a package of Debian's. Run by hand against
// this server were nbd's nbd-tester-client (13 cases: 11 as they are, two that send
// requests above 32 MiB without those), the interop tests of libnbd 1.14.2 (7 of 7),
// and qemu-iotests 7.2 with -raw -nbd, of which 001 to 004, 008 to 011, 021, 032, 077,
// 083, 104 and 123 pass.
//
// # TLS
//
// With [Options.TLS] a client may say STARTTLS, with TLSRequired it must before
// it gets to know anything. After the handshake nothing counts that was said in
// the clear, by whomever; bytes that came before the server had agreed to
// STARTTLS end the connection. Who must show a certificate is up to the
// tls.Config (ClientAuth). There are no pre-shared keys, which qemu and libnbd
// could use: crypto/tls knows PSKs as its own session tickets only, and takes
// none from outside.
//
// # Why not go-nbd's server
//
// The types and constants of go-nbd's package protocol (v0.3.2) carry this
// one; protocol.go adds what is missing there. Its package server cannot serve
// a lazy image:
//   - It sends the header that says success before it reads, so an unreadable
//     chunk can only break the connection, and a short read puts the stream out
//     of step.
//   - It answers one request of a connection at a time: 16 in flight on chunks
//     that take 20 ms each got 44 a second, and here 763. Of a file in the page cache
//     it gave 17,500 reads of 4 KiB a second at depth 1 and 49,000 at depth 16; here it
//     was 18,900 and 62,400 (fio on a Unix socket, medians of 3 in turns, 2 processors:
//     integration/bench, disk-gonbd).
//   - Unless multi-conn is on it sends no transmission flags at all, which
//     libnbd and qemu refuse, and it never says that an export is read-only.
//   - It skips a payload after each unknown command though only WRITE has one,
//     allocates names of up to 4 GiB before it looks at them, and knows neither
//     EXPORT_NAME nor structured replies nor STARTTLS.
//   - Its writes have no FUA, no zeros and no TRIM.
//
// # Speed
//
// System calls and switches between goroutines are what a warm read costs: see
// turn for how they are saved. Beside nbdkit 1.32 on a Unix socket (256 MiB of
// data, fio's nbd engine, 2 shared and busy processors, medians of 5 runs of
// 1 s in turns; on a busier machine the ratios at depth 16 and with 1 MiB went
// down to 0.7 and 0.8):
//
//	                     requests/s,    processor time of the server per request
//	                     to nbdkit's    here       nbdkit   (memory)
//	                    memory  file
//	4 KiB, depth 1       1.7    1.9       8.1 µs    13.9 µs
//	4 KiB, depth 16      1.8    1.5       3.7 µs     6.4 µs
//	4 KiB, depth 64      2.2    1.6       3.9 µs     6.1 µs
//	256 KiB, depth 16    1.04   0.94       71 µs      84 µs
//	1 MiB, depth 4       0.99   1.16      278 µs     295 µs
//
// A goroutine for each request instead took 8.6, 4.9, 5.3 and 87 µs of the
// processor for the first four where turns took 8.3, 4.3, 3.7 and 67.
//
// What a [Backed] reader has in the page cache goes to the socket without a copy of
// ours (Linux 6.5). nbdcopy of such a file then takes 0.6 times the server's
// processor that it took before, and half of what nbdkit's file plugin takes.
//
// A BLOCK_STATUS is answered before the reads that have arrived with it. nbdcopy asks
// for one every 128 MiB, and waits: once all of its reads were answered it gave all of
// their memory back and was without work. A copy of 4 GiB, two thirds full, over one
// connection took 0.65 times as long with this, and 0.8 times as long as nbdkit's file
// plugin, where it took 1.4 times as long before.
//
// Replies straight out of the chunks in memory, without a copy, were tried too: 256
// KiB at a time the kernel took 2.6 times the processor that it takes with one, for
// it reads a large heap page by page, each a TLB miss on a virtual machine. In huge
// pages the same was 0.7 times.
package nbd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"sync"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"

	"caravel/internal/hush"
)

// An Export is what a client sees under one name.
type Export struct {
	Name        string
	Description string // for people; may be empty
	Size        int64  // in bytes, exact
	Reader      Reader // may be a Writer, Sparse, Backed, Partial and a Wanter
	Preferred   int    // the block size at which reads are efficient, a power of two from 512 to 32 MiB; 0: 4096
	Zeros       bool   // reads send those of holes, too: to ask where these are takes more than it saves
}

// Options tunes a server. The zero value is a good choice.
type Options struct {
	Negotiation time.Duration // a client must have chosen its export by then; 0: 10 s
	Grace       time.Duration // for the requests in flight when the server ends; 0: 10 s
	Conns       int           // connections at a time, over all listeners; more wait until one ends or makes way; 0: 1024, or half of the descriptors that the process may have
	Requests    int           // in flight on one connection; 0: 128
	ConnMemory  int64         // bytes of reads, writes and block status under way on one connection, at least 32 MiB; 0: 64 MiB
	Memory      int64         // the same over all connections, at least 32 MiB, beside 128 KiB that each has for itself; 0: 256 MiB
	TLS         *tls.Config   // for clients that say STARTTLS; nil: they are told that there is no TLS
	TLSRequired bool          // others are refused; needs TLS
	Unlisted    bool          // LIST is refused, and there is no default; who knows a name can use it
	Log         *slog.Logger  // nil: discard
}

// many descriptors are more than the server would use.
const many = 1 << 20

func (o Options) filled() (Options, error) {
	o.Negotiation = cmp.Or(o.Negotiation, 10*time.Second)
	o.Grace = cmp.Or(o.Grace, 10*time.Second)
	o.Conns = cmp.Or(o.Conns, min(1024, descriptors()/2))
	o.Requests = cmp.Or(o.Requests, 128)
	o.ConnMemory = cmp.Or(o.ConnMemory, 64<<20)
	o.Memory = cmp.Or(o.Memory, 256<<20)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	switch {
	case o.Negotiation < 0 || o.Grace < 0:
		return o, fmt.Errorf("nbd: negative time limit (negotiation %v, grace %v)", o.Negotiation, o.Grace)
	case o.Conns < 0 || o.Requests < 0:
		return o, fmt.Errorf("nbd: negative limit (%d connections, %d requests)", o.Conns, o.Requests)
	case o.TLSRequired && o.TLS == nil:
		return o, errors.New("nbd: TLS required, but there is no configuration of it")
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
	jobs    sync.Pool     // of *job
	slots   chan struct{} // one taken for each connection
	said    hush.Texts

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

// An export is an Export with what its reader can do besides.
type export struct {
	Export
	writer  Writer  // nil: read-only
	sparse  Sparse  // nil: holes are not known
	backed  Backed  // nil: there is never a file
	partial Partial // nil: what is here is not known
	wanter  Wanter  // nil: no hints
}

// NewServer makes a server of exports. The first one is also what a client
// gets that asks for the default, which is the empty name, unless an export is
// called that or they are Unlisted.
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
	s.slots = make(chan struct{}, opt.Conns)
	for _, e := range exports {
		if err := e.check(); err != nil {
			return nil, err
		}
		if s.byName[e.Name] != nil {
			return nil, fmt.Errorf("nbd: export %q: given twice", e.Name)
		}
		x := &export{Export: e}
		x.Preferred = cmp.Or(x.Preferred, 4096)
		x.writer, _ = e.Reader.(Writer)
		x.sparse, _ = e.Reader.(Sparse)
		x.backed, _ = e.Reader.(Backed)
		x.partial, _ = e.Reader.(Partial)
		x.wanter, _ = e.Reader.(Wanter)
		s.byName[e.Name] = x
		s.exports = append(s.exports, x)
	}
	if s.byName[""] == nil && !opt.Unlisted { // else everybody would know a name
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
	// A flush is of all that was written, by whatever connection.
	f := protocol.NEGOTIATION_REPLY_FLAGS_HAS_FLAGS | protocol.NEGOTIATION_REPLY_FLAGS_CAN_MULTI_CONN
	if e.writer == nil {
		f |= flagReadOnly
	} else {
		f |= flagSendFlush | flagSendFUA | flagSendTrim | flagSendWriteZeroes
	}
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
// the time of grace at most; then Serve returns nil. It may be called for
// several listeners at once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	// Ends the clients, too, if it is the listener that fails.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()

	for {
		nc, err := accept(ctx, listener, s.opt.Log)
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("nbd: accept on %s: %w", listener.Addr(), err)
		}
		// Not before there is a client: an idle listener would keep one from others.
		if !s.takeSlot(ctx) {
			nc.Close()
			return nil
		}
		clients.Go(func() {
			defer func() { <-s.slots }()
			if err := s.ServeConn(ctx, nc); err != nil {
				s.opt.Log.Debug("nbd: connection ended", "err", err)
			}
		})
	}
}
