package tarball

import (
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"caravel/catar"
)

// A header is what stands in front of a member: a block that every tar reads, and
// before that, if it has no room for all, one of PAX with its records.
type header struct {
	name    string
	entry   catar.Entry
	size    int64 // of what follows
	records []string
	binary  bool // whether the records say that not all of them are UTF-8
}

// encodeGNU is what GNU tar does to attributes' names.
var encodeGNU = strings.NewReplacer("%", "%25", "=", "%3D")

// add adds a record, which begins with its own length.
func (h *header) add(key, value string) {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for n != len(rest)+len(strconv.Itoa(n)) {
		n = len(rest) + len(strconv.Itoa(n))
	}
	h.records = append(h.records, strconv.Itoa(n)+rest)
}

// text adds a record of a text that does not fit into its field, or of which a reader
// is to know that it is UTF-8, as records are.
func (h *header) text(key, value string, fits bool) {
	utf := utf8.ValidString(value)
	if fits && (ascii(value) || !utf) {
		return
	}
	if !utf && !h.binary {
		h.binary = true
		h.add("hdrcharset", "BINARY")
	}
	h.add(key, value)
}

// write writes the header.
func (h *header) write(w io.Writer) error {
	b := h.block()
	if len(h.records) > 0 {
		records := strings.Join(h.records, "")
		x := &header{size: int64(len(records))}
		x.entry.Mode = 0o644
		head := x.plain(shortName("PaxHeaders/", h.name), "", 'x')
		text := append(head[:], records...)
		text = append(text, make([]byte, -len(records)&(blockSize-1))...)
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	_, err := w.Write(b[:])
	return err
}

// shortName is the name of something that belongs to the member name, which a block
// has room for.
func shortName(dir, name string) string {
	short := dir + path.Base(name)
	if len(short) > nameSize || !ascii(short) {
		return dir + "entry"
	}
	return short
}

// Sizes of the fields of a block.
const (
	nameSize   = 100
	prefixSize = 155
	ownerSize  = 31 // and a NUL
	maxNumber  = 1<<21 - 1
	maxLength  = 1<<33 - 1
)

// block is the header without the records; what it has no room for is added to
// these.
func (h *header) block() [blockSize]byte {
	e := &h.entry
	name, prefix, fits := splitName(h.name)
	h.text("path", h.name, fits)
	h.text("linkpath", e.Target, len(e.Target) <= nameSize)
	h.text("uname", e.User, len(e.User) <= ownerSize)
	h.text("gname", e.Group, len(e.Group) <= ownerSize)
	if h.size > maxLength {
		h.add("size", strconv.FormatInt(h.size, 10))
	}
	if e.UID > maxNumber {
		h.add("uid", strconv.FormatUint(uint64(e.UID), 10))
	}
	if e.GID > maxNumber {
		h.add("gid", strconv.FormatUint(uint64(e.GID), 10))
	}
	if e.MTime < 0 || e.MTime%int64(time.Second) != 0 || e.MTime/int64(time.Second) > maxLength {
		h.add("mtime", paxTime(e.MTime))
	}
	return h.plain(name, prefix, typeflag(e.Mode))
}

// plain is a block of the ustar format. Numbers without room are 0 in it.
func (h *header) plain(name, prefix string, typ byte) (b [blockSize]byte) {
	e := &h.entry
	number := func(at, digits int, n int64) {
		if n < 0 || n >= 1<<(3*digits) {
			n = 0
		}
		copy(b[at:], fmt.Sprintf("%0*o", digits, n))
	}
	copy(b[:nameSize], name)
	number(100, 7, int64(e.Mode&0o7777))
	number(108, 7, int64(e.UID))
	number(116, 7, int64(e.GID))
	number(124, 11, h.size)
	number(136, 11, e.MTime/int64(time.Second))
	copy(b[148:], "        ") // the checksum, for as long as it is not known
	b[156] = typ
	copy(b[157:157+nameSize], e.Target)
	copy(b[257:], "ustar\x0000")
	copy(b[265:265+ownerSize], e.User)
	copy(b[297:297+ownerSize], e.Group)
	if e.IsDevice() {
		number(329, 7, int64(e.Major))
		number(337, 7, int64(e.Minor))
	}
	copy(b[345:345+prefixSize], prefix)
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// splitName divides a name between the two fields that a block has for it. What
// does not fit is cut, for readers that know no records.
func splitName(name string) (base, prefix string, fits bool) {
	if len(name) <= nameSize {
		return name, "", true
	}
	from := max(len(name)-nameSize-1, 0)
	// The slash of a directory's end is none between two parts.
	if i := strings.IndexByte(name[from:len(name)-1], '/'); i >= 0 && from+i <= prefixSize && from+i > 0 {
		return name[from+i+1:], name[:from+i], true
	}
	return name[:nameSize], "", false
}

// typeflag is tar's word for the type of a node.
func typeflag(mode uint32) byte {
	switch mode & catar.ModeType {
	case catar.ModeDir:
		return '5'
	case catar.ModeLink:
		return '2'
	case catar.ModeChar:
		return '3'
	case catar.ModeBlock:
		return '4'
	case catar.ModeFIFO:
		return '6'
	}
	return '0'
}

// paxTime is a time in seconds with a fraction.
func paxTime(ns int64) string {
	sign := ""
	u := uint64(ns)
	if ns < 0 {
		sign, u = "-", -u
	}
	text := fmt.Sprintf("%s%d.%09d", sign, u/1e9, u%1e9)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
