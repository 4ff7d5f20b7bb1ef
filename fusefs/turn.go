//go:build linux

package fusefs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A Turn is the time in which this process serves a [Held] mount. Its methods may
// be called from many goroutines.
type Turn struct {
	fs       *oneFile
	protocol *fuse.ProtocolServer
	log      *slog.Logger
	conn     *os.File // the kernel's connection
	raw      syscall.RawConn

	answerers sync.WaitGroup
	idle      atomic.Int32 // answerers that wait for a request
	done      chan struct{}

	mu    sync.Mutex
	spare []*exchange // guarded by mu
}

// ServeFile shows f as the only file of the held mount of which lent is a part;
// lent stays the caller's, and can be used again. The kernel never asks twice what
// it was told before, so f must be the same in each turn: name, size, bytes. It has
// a Reader for all who open it, as the kernel has files open that were opened in an
// earlier turn. Of opt, only Log and Debug count: the rest was settled by [Hold].
func ServeFile(lent *os.File, f File, opt Options) (*Turn, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.Reader == nil {
		return nil, fmt.Errorf("fusefs: %q: a held file wants one reader for all", f.Name)
	}
	f.Open = nil
	f.Mode = cmp.Or(f.Mode&0o7777, 0o444)
	if f.ModTime.IsZero() {
		f.ModTime = time.Now()
	}
	t, err := takeOver(lent, newOneFile(f, opt.withDefaults(f.Name)), opt.withDefaults(f.Name))
	if err != nil {
		return nil, fmt.Errorf("fusefs: %q: take over: %w", f.Name, err)
	}
	t.answerers.Go(t.answer)
	go t.end()
	return t, nil
}

func takeOver(lent *os.File, fs *oneFile, opt Options) (*Turn, error) {
	fd, terms, err := receiveLent(lent)
	if err != nil {
		return nil, err
	}
	t := &Turn{fs: fs, log: opt.Log, conn: os.NewFile(uintptr(fd), fuseDevice), done: make(chan struct{})}
	fs.requests.alive = func() bool { return connected(t.conn) }
	if t.protocol, _, err = greet(fs, terms, opt, t.panicked); err == nil {
		err = resend(fd)
	}
	if err != nil {
		t.conn.Close()
		return nil, err
	}
	t.raw, err = t.conn.SyscallConn()
	return t, err
}

// receiveLent reads what Lend wrote, and leaves it there for the next one.
func receiveLent(lent *os.File) (fd int, terms []byte, err error) {
	conn, err := lent.SyscallConn()
	if err != nil {
		return -1, nil, err
	}
	controlErr := conn.Control(func(socket uintptr) { fd, terms, err = receiveFD(int(socket), askedSize+1024, unix.MSG_PEEK) })
	if err := errors.Join(controlErr, err); err != nil {
		return -1, nil, err
	}
	return fd, terms, nil
}

// resend has the kernel send again what was taken from the connection and not
// answered.
func resend(fd int) error {
	// struct fuse_out_header: length, what is told, and 0 for no request.
	b := binary.NativeEndian.AppendUint32(nil, 16)
	b = binary.NativeEndian.AppendUint32(b, notifyResend)
	b = binary.NativeEndian.AppendUint64(b, 0)
	_, err := unix.Write(fd, b)
	return err
}

const notifyResend = -fuse.NOTIFY_RESEND // the library has it negative

func (t *Turn) panicked(what any) fuse.Status {
	t.log.Error("request failed", "file", t.fs.name(), "panic", what, "stack", string(debug.Stack()))
	return fuse.EIO
}

// readBuffer is what the kernel wants room for whatever it sends: the longest
// write, and what goes before it.
const readBuffer = maxRead + 2*resident

// resident is the part of a buffer that requests fill which write nothing.
const resident = 8 << 10

// An exchange is room for a request and its answer.
type exchange struct{ in, out []byte }

// newExchange makes room that is there. A process that is being killed still
// takes requests as they come, for as long as it waits for a processor; where the
// kernel finds no page then to write them to, it gets none, and fails the request.
// (With the library's buffers, which are new whenever nobody has used them for
// some time, a read failed in 2 of 5 runs of 50 kills.)
func newExchange() *exchange {
	x := &exchange{make([]byte, readBuffer), make([]byte, maxRead+resident)}
	for i := 0; i < resident; i += 1 << 10 {
		x.in[i] = 1
	}
	return x
}

// exchange gives the room that was used last: a pool of the runtime's would lose
// it at each collection, and have 2 MiB more to clear. There are as many as the
// kernel has requests under way.
func (t *Turn) exchange() *exchange {
	t.mu.Lock()
	n := len(t.spare)
	if n == 0 {
		t.mu.Unlock()
		return newExchange()
	}
	defer t.mu.Unlock()
	x := t.spare[n-1]
	t.spare = t.spare[:n-1]
	return x
}

func (t *Turn) putExchange(x *exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spare = append(t.spare, x)
}

// answer takes requests and answers them until others do, or the mount has ended.
// While one is worked at, another goroutine waits for the next.
func (t *Turn) answer() {
	x := t.exchange()
	defer t.putExchange(x)
	for {
		t.idle.Add(1)
		n, err := t.read(x.in)
		others := t.idle.Add(-1)
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINTR): // whoever asked has gone
			continue
		default:
			if !errors.Is(err, unix.ENODEV) {
				t.log.Error("mount is served no longer", "file", t.fs.name(), "err", err)
			}
			t.fs.requests.end()
			return
		}
		if others == 0 {
			t.answerers.Go(t.answer)
		}
		t.handle(x, n)
		if t.idle.Load() > maxIdle {
			return
		}
	}
}

// maxIdle is how many goroutines wait for requests at a time: enough for one to be
// there when the next request comes, and each takes a thread.
const maxIdle = 2

func (t *Turn) handle(x *exchange, n int) {
	n, status := t.protocol.HandleRequest([][]byte{x.in[:n]}, [][]byte{x.out})
	if !status.Ok() {
		t.log.Error("request not understood", "file", t.fs.name(), "err", status)
		return
	}
	if n == 0 {
		return
	}
	if err := t.write(x.out[:n]); err != nil {
		t.log.Debug("answer not wanted", "file", t.fs.name(), "err", err)
	}
}

func (t *Turn) read(p []byte) (n int, err error) {
	closed := t.raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), p) })
	return n, errors.Join(closed, err)
}

func (t *Turn) write(p []byte) (err error) {
	closed := t.raw.Control(func(fd uintptr) { _, err = unix.Write(int(fd), p) })
	return errors.Join(closed, err)
}

// end closes the connection when nothing more comes.
func (t *Turn) end() {
	t.answerers.Wait()
	t.conn.Close()
	close(t.done)
}

// Done is closed when the mount has ended: nobody has the file open, and nobody
// can find it any more.
func (t *Turn) Done() <-chan struct{} { return t.done }

// Leave ends the turn: when it returns, the Reader is not called any more. What
// was not answered, and what comes, waits for the next turn, which must not begin
// before this process has ended. It is for the end of a process only: it keeps
// the threads on which requests arrive.
func (t *Turn) Leave() { t.fs.requests.leave() }
