package store

import (
	"context"
	"io"
	"iter"
	"time"
)

// A Range is a part of an object, in bytes. The zero value is all of it.
type Range struct {
	Off int64
	Len int64 // 0: to the end

	// Tag is the Info.Tag that the object must still have; "": any. The error
	// for another one matches ErrChanged. A backend without tags ignores it.
	Tag string
}

// Info is what a backend knows of an object.
type Info struct {
	Size    int64     // of the whole object, whatever range was opened; -1: unknown
	Tag     string    // changes when the object does (an ETag, or a date); "": unknown
	ModTime time.Time // zero: unknown
	Whole   bool      // a range was asked for, and the backend had to read all before it as well
}

// Blobs keeps named objects: a directory, a bucket, a web server's folder.
// Names are relative, separated by slashes. Its methods may be called from
// many goroutines.
type Blobs interface {
	// Open reads an object or a part of it. The error matches ErrMissing if
	// there is none, ErrRefused if asking again is of no use, and is a
	// *BusyError if the backend asked for patience. Range.Off behind the end is
	// an error. A body that is shorter than promised ends in
	// io.ErrUnexpectedEOF.
	Open(ctx context.Context, name string, r Range) (io.ReadCloser, Info, error)

	// String is where the objects are, for people: a path or URL without
	// secrets.
	String() string
}

// A Locator is a backend that can say where one object lies.
type Locator interface {
	// Locate is the path or URL of an object, for error messages.
	Locate(name string) string
}

// A Statter is a backend that can describe an object without reading it.
type Statter interface {
	Stat(ctx context.Context, name string) (Info, error)
}

// A Refresher is a backend that can tell, without sending it again, that an
// object is still the one that somebody has.
type Refresher interface {
	// Refresh is Open, unless the object still has the tag of have: then the
	// error matches ErrUnchanged. "" is none's.
	Refresh(ctx context.Context, name string, r Range, have Info) (io.ReadCloser, Info, error)
}

// A Putter is a backend that takes objects.
type Putter interface {
	// Put stores all of r under name, in place of what was there; a reader
	// sees the former object or the whole new one. size is the number of bytes
	// that r will give, -1 if unknown.
	Put(ctx context.Context, name string, r io.Reader, size int64) error

	// Sync returns when all that Put has taken would survive a power cut.
	Sync(ctx context.Context) error
}

// A Lister is a backend that can enumerate its objects.
type Lister interface {
	// List gives the names that begin with prefix, in no particular order.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// A Deleter is a backend that can remove an object; one that is not there is
// no error.
type Deleter interface {
	Delete(ctx context.Context, name string) error
}
