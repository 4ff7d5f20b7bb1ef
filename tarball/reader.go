package tarball

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"strconv"
	"strings"

	"caravel/catar"
	"caravel/catar/inode"
)

// ReaderOptions tunes a Reader. The zero value is a good choice.
type ReaderOptions struct {
	IDs *inode.IDs // who is meant by a name in an access control list; nil: this machine's
}

// A Member is an entry of a tar stream.
type Member struct {
	catar.Entry
	Name string // as it stands there
	Hard string // name of the member that it is another name of; "": it is a node of its own

	Lost    []string // what of it an archive cannot keep; in words
	Refused string   // why there is no such node in an archive at all; "": there is
}

// A Reader reads a tar stream from its start to its end mark.
type Reader struct {
	tar    *tar.Reader
	src    *source
	ids    *inode.IDs
	global map[string]string // of global PAX headers
	h      *tar.Header
	begin  int64 // where the member's bytes are in the source
}

// NewReader reads an uncompressed stream. Of one that can be read anywhere (an
// io.ReadSeeker that is an io.ReaderAt, too) the bytes of files are passed over,
// and can be read in their place later: see At.
func NewReader(r io.Reader, opt ReaderOptions) *Reader {
	if opt.IDs == nil {
		opt.IDs = inode.LocalIDs()
	}
	src := newSource(r)
	return &Reader{tar: tar.NewReader(src.reader()), src: src, ids: opt.IDs, global: map[string]string{}}
}

// Next returns the next member. io.EOF: that was the last one.
func (r *Reader) Next() (*Member, error) {
	for {
		r.src.zeros = 0
		h, err := r.tar.Next()
		if err == io.EOF {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("tarball: offset %d: %w", r.src.off, plain(err))
		}
		if h.Typeflag != tar.TypeXGlobalHeader {
			r.h, r.begin = h, r.src.off
			return r.member(h), nil
		}
		if err := r.addGlobal(h.PAXRecords); err != nil {
			return nil, fmt.Errorf("tarball: offset %d: %w", r.src.off, err)
		}
	}
}

// plain is an error of archive/tar without that name, and with the words of a
// stream that ends.
func plain(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("truncated")
	}
	if text, ok := strings.CutPrefix(err.Error(), "archive/tar: "); ok {
		return errors.New(text)
	}
	return err
}

// maxGlobal bounds what global headers say together.
const maxGlobal = 1 << 20

// addGlobal takes note of what counts for all members from here on.
func (r *Reader) addGlobal(records map[string]string) error {
	for key, value := range records {
		switch {
		case key == "path", key == "linkpath", key == "size", strings.HasPrefix(key, "GNU.sparse."):
			return fmt.Errorf("a global header gives all members the same %s", key)
		case value == "":
			delete(r.global, key)
		default:
			r.global[key] = value
		}
	}
	n := 0
	for key, value := range r.global {
		n += len(key) + len(value)
	}
	if n > maxGlobal {
		return fmt.Errorf("global headers of %d bytes, above %d", n, maxGlobal)
	}
	return nil
}

// Read reads the bytes of the regular file that Next returned last; of a sparse
// file, its holes too.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.tar.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("tarball: offset %d: in the bytes of %q: %w", r.src.off, r.h.Name, plain(err))
	}
	return n, err
}

// At is where the bytes of the member that Next returned last can be read once
// more; nil if they cannot: the source is a pipe, or they lie there without their
// holes.
func (r *Reader) At() (src io.ReaderAt, off int64) {
	if r.src.at == nil || sparse(r.h) {
		return nil, 0
	}
	return r.src.at, r.src.base + r.begin
}

// Cut reports, at the end of the stream, whether its end mark is missing.
func (r *Reader) Cut() bool { return r.src.zeros < blockSize }

// Rest reads the source to its end, which a decompressor takes to see whether all
// was well, and reports whether there was anything but zeros.
func (r *Reader) Rest() (more bool, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.src.r.Read(buf)
		more = more || !allZero(buf[:n])
		if err == io.EOF {
			return more, nil
		}
		if err != nil {
			return more, fmt.Errorf("tarball: behind the end: %w", err)
		}
	}
}

// sparse reports whether a file lies in the stream without its holes.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// member is what an archive has of a header.
func (r *Reader) member(h *tar.Header) *Member {
	m := &Member{Name: h.Name}
	records := h.PAXRecords
	if len(r.global) > 0 {
		records = maps.Clone(r.global)
		maps.Copy(records, h.PAXRecords)
		if err := r.inherit(h); err != nil {
			m.Refused = err.Error()
			return m
		}
	}
	if m.Refused = m.kind(h); m.Refused != "" {
		return m
	}
	m.Mode |= uint32(h.Mode) & 0o7777
	if m.Refused = m.owner(h); m.Refused != "" {
		return m
	}
	if m.MTime, m.Refused = nanoseconds(h); m.Refused != "" {
		return m
	}
	if m.Hard == "" {
		m.records(records, r.ids)
	}
	return m
}

// inherit gives h what global headers say and its own records do not.
func (r *Reader) inherit(h *tar.Header) error {
	for key, value := range r.global {
		if _, own := h.PAXRecords[key]; own {
			continue
		}
		var err error
		switch key {
		case "uname":
			h.Uname = value
		case "gname":
			h.Gname = value
		case "uid":
			h.Uid, err = strconv.Atoi(value)
		case "gid":
			h.Gid, err = strconv.Atoi(value)
		case "mtime":
			h.ModTime, err = parseTime(value)
		}
		if err != nil {
			return fmt.Errorf("a global header says %s=%q", key, value)
		}
	}
	return nil
}

// kind sets what says what the node is; the text is why there is none.
func (m *Member) kind(h *tar.Header) (refused string) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		m.Mode, m.Size = catar.ModeRegular, h.Size
	case tar.TypeLink:
		m.Mode, m.Hard = catar.ModeRegular, h.Linkname
		if m.Hard == "" {
			return "a hard link to nothing"
		}
	case tar.TypeSymlink:
		m.Mode, m.Target = catar.ModeLink, h.Linkname
		if n := len(m.Target); n == 0 || n > catar.MaxTarget {
			return fmt.Sprintf("a symbolic link's target of %d bytes, not 1 to %d", n, catar.MaxTarget)
		}
	case tar.TypeDir:
		m.Mode = catar.ModeDir
	case tar.TypeFifo:
		m.Mode = catar.ModeFIFO
	case tar.TypeChar, tar.TypeBlock:
		m.Mode = catar.ModeChar
		if h.Typeflag == tar.TypeBlock {
			m.Mode = catar.ModeBlock
		}
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fmt.Sprintf("device %d:%d, of which the first has 12 bits and the second 20", h.Devmajor, h.Devminor)
		}
		m.Major, m.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	default:
		return fmt.Sprintf("a member of the type %q", h.Typeflag)
	}
	return ""
}

func (m *Member) owner(h *tar.Header) (refused string) {
	if uid, gid := int64(h.Uid), int64(h.Gid); uid < 0 || uid > math.MaxUint32 || gid < 0 || gid > math.MaxUint32 {
		return fmt.Sprintf("owner %d:%d, which is no 32 bits", h.Uid, h.Gid)
	}
	if catar.NoOwner(uint32(h.Uid)) || catar.NoOwner(uint32(h.Gid)) {
		return fmt.Sprintf("owner %d:%d, of which one means nobody", h.Uid, h.Gid)
	}
	m.UID, m.GID = uint32(h.Uid), uint32(h.Gid)
	// As casync has it, nobody needs to be told who has the number 0.
	if m.UID != 0 {
		m.User = h.Uname
	}
	if m.GID != 0 {
		m.Group = h.Gname
	}
	return ""
}

func nanoseconds(h *tar.Header) (t int64, refused string) {
	const most = math.MaxInt64/1_000_000_000 - 1
	if s := h.ModTime.Unix(); s < -most || s > most {
		return 0, fmt.Sprintf("a time of %d seconds, outside of what nanoseconds count", s)
	}
	if h.ModTime.UnixNano() == -1 {
		return 0, "a time of -1 nanosecond, which means none"
	}
	return h.ModTime.UnixNano(), ""
}
