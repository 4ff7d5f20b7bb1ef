package supervise

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// A Legacy is what a worker leaves to its successor.
type Legacy struct {
	State []byte     // at most 4 KiB
	Files []*os.File // at most 128

	// Keep says that the files are no worse for what a worker did with them: each
	// one gets them, also after a crash, until something else is left. The
	// supervisor has them open as long, in this order, and closes them in it.
	Keep bool

	stays bool // it is none: the worker does not give way
}

// The first byte of a message, as one of no bytes would be the end.
const (
	once = iota
	kept
	stays
)

// What one message between supervisor and worker holds at most.
const (
	maxState = 4 << 10
	maxFiles = 128
)

// Close closes the files.
func (l Legacy) Close() {
	for _, f := range l.Files {
		f.Close()
	}
}

// send writes l as one message.
func send(c *net.UnixConn, l Legacy) error {
	if len(l.State) > maxState || len(l.Files) > maxFiles {
		return fmt.Errorf("supervise: %d bytes and %d files left: more than %d and %d", len(l.State), len(l.Files), maxState, maxFiles)
	}
	var fds []int
	for _, f := range l.Files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	how := byte(once)
	switch {
	case l.stays:
		how = stays
	case l.Keep:
		how = kept
	}
	if _, _, err := c.WriteMsgUnix(append([]byte{how}, l.State...), rights, nil); err != nil {
		return fmt.Errorf("supervise: %w", err)
	}
	return nil
}

// receive reads one message; io.EOF says that the other side is gone.
func receive(c *net.UnixConn) (Legacy, error) {
	b := make([]byte, 1+maxState)
	rights := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, rn, _, _, err := c.ReadMsgUnix(b, rights)
	if err != nil {
		return Legacy{}, err
	}
	l := Legacy{}
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil {
		return l, fmt.Errorf("supervise: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return l, fmt.Errorf("supervise: %w", err)
		}
		for _, fd := range fds {
			l.Files = append(l.Files, os.NewFile(uintptr(fd), "left"))
		}
	}
	if n == 0 {
		l.Close()
		return Legacy{}, io.EOF
	}
	l.State, l.Keep, l.stays = b[1:n], b[0] == kept, b[0] == stays
	return l, nil
}

// pair makes the two ends of a line between supervisor and worker.
func pair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("supervise: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "supervisor")
	ours, err = line(os.NewFile(uintptr(fds[0]), "worker"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

func line(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("supervise: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("supervise: not a Unix socket")
	}
	return u, nil
}
