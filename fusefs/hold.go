//go:build linux

package fusefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// ErrNoResend is what Hold says where the kernel cannot ask again what a process
// took with it when it died: it does so since Linux 6.9.
var ErrNoResend = errors.New("the kernel cannot send requests again (Linux 6.9 can)")

// A Held is a mount of one file that outlives the processes that serve it. Its
// holder has the kernel's connection and answers nothing; who serves is given a
// part in it by [Held.Lend], and takes it by [ServeFile]. When that process is
// killed, readers wait as long as somebody keeps a part, and the next one who serves
// is sent what had not been answered. Held's methods may be called from many
// goroutines.
type Held struct {
	Dir string // where it is, absolute, without symbolic links, until Detach

	conn  *os.File // the kernel's connection
	terms []byte   // what a server is told of it: see agree

	mu    sync.Mutex // guards the rest
	there bool       // at Dir
	made  bool       // Dir is ours to remove
}

// Hold mounts on the directory dir what others will serve. Until one of them
// does, whoever looks there waits, so also when it is the caller. What opt says
// goes for all who serve it; a held mount has no passthrough, and its read-ahead is
// the kernel's own.
//
// When the holder dies, the one who serves goes on, and is the last to do so. It
// cannot die while a thread of it waits for an answer from the mount, and keeps the
// mount's readers waiting: it should look there only while somebody serves.
func Hold(dir string, opt Options) (_ *Held, err error) {
	opt = opt.withDefaults("caravel")
	h := &Held{there: true}
	if h.Dir, h.made, err = mountPoint(dir, opt); err != nil {
		return nil, err
	}
	fd, err := attach(h.Dir, opt)
	if err != nil {
		if h.made {
			os.Remove(h.Dir)
		}
		return nil, err
	}
	h.conn = os.NewFile(uintptr(fd), fuseDevice)
	if h.terms, err = agree(fd, opt); err != nil {
		h.Close()
		return nil, fmt.Errorf("fusefs: %s: %w", h.Dir, err)
	}
	return h, nil
}

// Offsets of the two halves of the flags in the kernel's first request and in its
// answer (struct fuse_init_in and fuse_init_out of linux/fuse.h, each behind its
// header), and the size of the former.
const (
	askedFlags, askedFlags2   = 40 + 12, 40 + 16
	agreedFlags, agreedFlags2 = 16 + 12, 16 + 32
	askedSize, agreedSize     = 40 + 64, 16 + 64
)

// agree answers the kernel's first request, once for all who will serve the
// connection. It returns the request as they are to see it: with the abilities
// that were agreed on, so that none of them counts on others.
func agree(fd int, opt Options) (terms []byte, err error) {
	asked := make([]byte, readBuffer)
	n, err := unix.Read(fd, asked)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(fd, asked)
	}
	if err != nil {
		return nil, err
	}
	asked = asked[:n]
	if len(asked) < askedSize || binary.NativeEndian.Uint32(asked[askedFlags2:])&(fuse.CAP_HAS_RESEND>>32) == 0 {
		return nil, ErrNoResend
	}
	_, answer, err := greet(newOneFile(File{}, opt), asked, opt, nil)
	if err != nil {
		return nil, err
	}
	if _, err := unix.Write(fd, answer); err != nil {
		return nil, err
	}
	terms = asked
	for at, by := range map[int]int{askedFlags: agreedFlags, askedFlags2: agreedFlags2} {
		both := binary.NativeEndian.Uint32(asked[at:]) & binary.NativeEndian.Uint32(answer[by:])
		binary.NativeEndian.PutUint32(terms[at:], both)
	}
	return terms, nil
}

// greet makes the library's side of a connection, and has it answer asked, the
// kernel's first request.
func greet(fs *oneFile, asked []byte, opt Options, panicked func(any) fuse.Status) (*fuse.ProtocolServer, []byte, error) {
	opt.Passthrough = -1 // the kernel would want to go on with what the dead one gave it
	o := opt.serverOptions(fs, panicked)
	// To say so only tells that one knows of them.
	o.ExtraCapabilities |= fuse.CAP_HAS_RESEND | fuse.CAP_NO_OPENDIR_SUPPORT
	fs.kernel = new(fuse.InitIn)
	if err := binary.Read(bytes.NewReader(asked), binary.NativeEndian, fs.kernel); err != nil {
		return nil, nil, err
	}
	p := fuse.NewProtocolServer(fs, o)
	answer := make([]byte, 4096)
	n, status := p.HandleRequest([][]byte{asked}, [][]byte{answer})
	if !status.Ok() || n < agreedSize || int32(binary.NativeEndian.Uint32(answer[4:])) != 0 {
		return nil, nil, fmt.Errorf("first request: %v, %d bytes in answer", status, n)
	}
	return p, answer[:n], nil
}

// Lend returns a descriptor for [ServeFile], in this process or in one that has
// inherited it or was sent it. It is a part of the mount as the holder's own is, and
// is good for one turn after the other, whoever keeps it. The caller closes it. Two
// should not serve at a time: both are sent what the first has taken and not
// answered.
func (h *Held) Lend() (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fusefs: %s: %w", h.Dir, err)
	}
	defer unix.Close(pair[0])
	conn, err := h.conn.SyscallConn()
	if err == nil {
		closed := conn.Control(func(fd uintptr) {
			err = unix.Sendmsg(pair[0], h.terms, unix.UnixRights(int(fd)), nil, 0)
		})
		err = errors.Join(closed, err)
	}
	if err != nil {
		unix.Close(pair[1])
		return nil, fmt.Errorf("fusefs: %s: %w", h.Dir, err)
	}
	return os.NewFile(uintptr(pair[1]), "lent "+h.Dir), nil
}

// Detach takes the mount out of sight, and removes its directory if Hold made it.
// Who has the file open keeps it, be it a loop device or a descriptor; with the
// last of them the mount ends. Once it is detached nothing is left behind, whoever
// dies.
func (h *Held) Detach() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.there {
		return nil
	}
	if err := detach(h.Dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) { // that is: gone already
		return err
	}
	h.there = false
	if h.made {
		return os.Remove(h.Dir)
	}
	return nil
}

// Close lets go of the mount. As soon as nobody else has a part in it, reads of
// the file fail.
func (h *Held) Close() error {
	return errors.Join(h.Detach(), h.conn.Close())
}
