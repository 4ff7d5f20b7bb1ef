package walk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// names are the children of a directory in the order of their names. They take
// 16 bytes a name and its own: there are folders of a million files.
type names struct {
	text []byte // all the names, one behind the other
	all  []name
}

// A name is one of the children.
type name struct {
	key uint64 // its first eight bytes, which mostly decide the order
	ref uint64 // where in text it is, how long, and of which type
}

const (
	typeBits   = 4
	lengthBits = 16 // the kernel's records have no longer ones
)

// Type is the child's file type as getdents(2) says it; DT_UNKNOWN: it doesn't.
func (n name) Type() uint8 { return uint8(n.ref & (1<<typeBits - 1)) }

// of returns the text of a name.
func (l *names) of(n name) []byte {
	from := n.ref >> (typeBits + lengthBits)
	return l.text[from:][:n.ref>>typeBits&(1<<lengthBits-1)]
}

// add takes one more name.
func (l *names) add(text []byte, typ uint8) {
	var head [8]byte
	copy(head[:], text)
	l.all = append(l.all, name{
		key: binary.BigEndian.Uint64(head[:]),
		ref: uint64(len(l.text))<<(typeBits+lengthBits) | uint64(len(text))<<typeBits | uint64(typ&(1<<typeBits-1)),
	})
	l.text = append(l.text, text...)
}

// compare orders names by their bytes. The keys of two names can only be equal
// if their first eight bytes are, since a name has no NUL.
func (l *names) compare(a, b name) int {
	if a.key != b.key {
		return cmp.Compare(a.key, b.key)
	}
	return bytes.Compare(l.of(a), l.of(b))
}

// has reports whether text is one of the names.
func (l *names) has(text string) bool {
	_, found := slices.BinarySearchFunc(l.all, text, func(n name, text string) int {
		return bytes.Compare(l.of(n), []byte(text))
	})
	return found
}

// list reads the directory fd to its end, by way of buf. If a name comes twice,
// because others rename meanwhile, it counts once.
func list(fd int, buf []byte) (*names, error) {
	l := new(names)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err == unix.ENOENT { // the directory was removed
			return nil, errGone
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if err := l.parse(buf[:n]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(l.all, l.compare)
	l.all = slices.CompactFunc(l.all, func(a, b name) bool { return l.compare(a, b) == 0 })
	return l, nil
}

// What struct linux_dirent64 has before the name: inode, offset, its own
// length, the type.
const (
	direntLength = 16
	direntType   = 18
	direntName   = 19
)

// parse takes the names out of what getdents wrote.
func (l *names) parse(b []byte) error {
	for len(b) > 0 {
		if len(b) < direntName {
			return unix.EBADMSG
		}
		size := int(binary.NativeEndian.Uint16(b[direntLength:]))
		if size < direntName || size > len(b) {
			return unix.EBADMSG
		}
		text, _, ended := bytes.Cut(b[direntName:size], []byte{0})
		if !ended || len(text) == 0 {
			return unix.EBADMSG
		}
		if s := string(text); s != "." && s != ".." {
			l.add(text, b[direntType])
		}
		b = b[size:]
	}
	return nil
}
