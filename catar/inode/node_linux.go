package inode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A node is what fd is open on.
type node struct {
	fd   int
	path string // "": fd takes all calls; else it is a mere place, and this leads to it
	typ  uint32 // S_IFMT of the mode
	ino  uint64
	fs   *filesystem
}

func newNode(fd int, st *unix.Statx_t, all *filesystems) (node, error) {
	fs, err := all.of(fd, unix.Mkdev(st.Dev_major, st.Dev_minor))
	if err != nil {
		return node{}, fmt.Errorf("statfs: %w", err)
	}
	n := node{fd: fd, typ: uint32(st.Mode) & unix.S_IFMT, ino: st.Ino, fs: fs}
	if !n.opened() {
		n.path = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	return n, nil
}

// opened reports whether the node is a regular file or a directory. Only these
// are opened, and have flags, attributes and a project.
func (n *node) opened() bool { return n.typ == unix.S_IFREG || n.typ == unix.S_IFDIR }

// retry repeats what a signal interrupted: a file system in a process lets the
// runtime's own ones through.
func retry(call func() (int, error)) (int, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

// list appends the names of the extended attributes to buf, each with a NUL.
func (n *node) list(buf []byte) ([]byte, error) {
	if n.fs.noXAttrs.Load() {
		return nil, nil
	}
	for {
		size, err := retry(func() (int, error) {
			if n.path != "" {
				return unix.Listxattr(n.path, buf)
			}
			return unix.Flistxattr(n.fd, buf)
		})
		switch {
		case err == nil:
			return buf[:size], nil
		case err != unix.ERANGE || len(buf) >= maxList:
			return nil, n.fs.forgive(err, &n.fs.noXAttrs)
		}
		buf = make([]byte, maxList)
	}
}

const (
	firstList  = 1 << 10 // what mostly is enough
	maxList    = 64 << 10
	firstValue = 1 << 10
	maxValue   = 64 << 10 // the kernel's
)

// xattr reads an extended attribute; nil: there is none.
func (n *node) xattr(name string) ([]byte, error) {
	buf := make([]byte, firstValue)
	for {
		size, err := retry(func() (int, error) {
			if n.path != "" {
				return unix.Getxattr(n.path, name, buf)
			}
			return unix.Fgetxattr(n.fd, name, buf)
		})
		switch {
		case err == nil:
			return bytes.Clone(buf[:size]), nil
		case err == unix.ENODATA || unsupported(err):
			return nil, nil
		case err != unix.ERANGE || len(buf) >= maxValue:
			return nil, err
		}
		buf = make([]byte, maxValue)
	}
}

func (n *node) setXAttr(name string, value []byte) error {
	_, err := retry(func() (int, error) {
		if n.path != "" {
			return 0, unix.Setxattr(n.path, name, value, 0)
		}
		return 0, unix.Fsetxattr(n.fd, name, value, 0)
	})
	return err
}

// removeXAttr removes what may have gone already.
func (n *node) removeXAttr(name string) error {
	_, err := retry(func() (int, error) {
		if n.path != "" {
			return 0, unix.Removexattr(n.path, name)
		}
		return 0, unix.Fremovexattr(n.fd, name)
	})
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}

// The attributes that have records of their own.
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
	capability = "security.capability"
	label      = "security.selinux"
)

// plain reports whether an attribute is kept as such.
func plain(name string) bool {
	for _, namespace := range [...]string{"user.", "trusted."} {
		if strings.HasPrefix(name, namespace) {
			return len(name) > len(namespace) && len(name) <= 255
		}
	}
	return false
}

// A list says which attributes a node has.
type list struct {
	access, defaults, capability, label bool

	plain []string
}

// attributes lists what n has. labels: whether there may be a label that is
// not listed.
func (n *node) attributes(labels bool) (list, error) {
	var buf [firstList]byte
	text, err := n.list(buf[:])
	if err != nil {
		return list{}, fmt.Errorf("listing extended attributes: %w", err)
	}
	var l list
	for len(text) > 0 {
		name, rest, _ := bytes.Cut(text, []byte{0})
		switch string(name) {
		case accessACL:
			l.access = true
		case defaultACL:
			l.defaults = true
		case capability:
			l.capability = true
		case label:
			l.label = true
		default:
			if n.opened() && plain(string(name)) {
				l.plain = append(l.plain, string(name))
			}
		}
		text = rest
	}
	if !n.fs.native() && !n.fs.noXAttrs.Load() {
		l.access, l.defaults, l.label = true, true, true
	}
	l.label = l.label || labels
	l.defaults = l.defaults && n.typ == unix.S_IFDIR
	return l, nil
}

// labelled reports whether the kernel runs SELinux, which knows labels that the
// file system does not list.
func labelled() bool {
	known, err := os.ReadFile("/proc/filesystems")
	return err == nil && bytes.Contains(known, []byte("selinuxfs"))
}
