package nbddev

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// A Link is one connection between the kernel and a server.
type Link struct {
	Conn   net.Conn // the server's end
	kernel int      // the kernel's end, until it has it; then -1
}

// NewLinks makes n links, of which Attach or Reattach gives the kernel its ends.
// The caller closes the server's ends.
func NewLinks(n int) ([]*Link, error) {
	var links []*Link
	for range n {
		l, err := newLink()
		if err != nil {
			closeLinks(links)
			return nil, fmt.Errorf("nbddev: pair of sockets: %w", err)
		}
		links = append(links, l)
	}
	return links, nil
}

func newLink() (*Link, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours := os.NewFile(uintptr(fds[1]), "nbd")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		unix.Close(fds[0])
		return nil, err
	}
	return &Link{conn, fds[0]}, nil
}

// closeLinks closes both ends of links.
func closeLinks(links []*Link) {
	for _, l := range links {
		l.Conn.Close()
	}
	handedOver(links)
}

// handedOver closes the kernel's ends in this process: it has its own by now, or
// does not want them.
func handedOver(links []*Link) {
	for _, l := range links {
		if l.kernel >= 0 {
			unix.Close(l.kernel)
			l.kernel = -1
		}
	}
}
