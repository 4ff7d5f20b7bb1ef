//go:build linux

package fusefs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Reader gives the bytes of a file, by io.ReaderAt's rules: fewer bytes than
// asked for only with an error, io.EOF at the end. ReadAt may be called from
// many goroutines; it returns soon after ctx is done and keeps neither p nor
// ctx.
type Reader interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// A File is what MountFile shows.
type File struct {
	Name    string    // one path element: 1 to 255 bytes of any kind but '/' and NUL
	Size    int64     // exactly
	Mode    uint32    // permission bits; 0: 0444
	ModTime time.Time // zero: now
	UID     uint32
	GID     uint32

	// Reader serves all who open the file, unless Open is set.
	Reader Reader

	// Open, if set, gives each opened file a Reader of its own, so that what
	// is learnt from the order of its reads is not mixed with another's. It
	// is called from many goroutines and must not wait. A Reader that is an
	// io.Closer is closed after its last read. It may be Backed.
	Open func() Reader
}

// MountFile shows f as the only file of a read-only file system mounted on the
// directory dir. When it returns, the file can be read, also by the calling
// process. End it with [Mount.Unmount].
func MountFile(dir string, f File, opt Options) (*Mount, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	f.Mode = cmp.Or(f.Mode&0o7777, 0o444)
	if f.ModTime.IsZero() {
		f.ModTime = time.Now()
	}
	opt = opt.withDefaults(f.Name)
	return mount(dir, newOneFile(f, opt), opt)
}

func (f *File) check() error {
	switch {
	case f.Name == "" || f.Name == "." || f.Name == ".." || len(f.Name) > maxName || strings.ContainsAny(f.Name, "/\x00"):
		return fmt.Errorf("fusefs: %q: no name for a file", f.Name)
	case f.Size < 0:
		return fmt.Errorf("fusefs: %q: size %d", f.Name, f.Size)
	case f.Reader == nil && f.Open == nil:
		return errors.New("fusefs: no reader")
	}
	return nil
}
