// Package open turns what a user typed into backends and stores.
//
// A location is a path, a URL (file, http, https or ssh), or - for standard input
// where something is read once, from start to end. Like casync, it takes
// host:path for a place reached over ssh: write ./host:path for a file of that
// name. What other URLs lead to, casync's helper programs find, if there are some:
// casync-SCHEME in $CASYNC_PROTOCOL_PATH. Several stores that are copies of one another are joined by |.
//
//	index, err := open.Read(ctx, "https://example.com/disk.caibx", 1<<30, open.Options{})
//	chunks, err := open.Store(open.DefaultStore("https://example.com/disk.caibx"), open.Options{})
//
// A new backend is its own folder and one line of the table in schemes.go.
package open

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"caravel/store"
	"caravel/store/http"
)

// Options says how to open. The zero value is a good choice; to share its
// connections, give HTTP a Client.
type Options struct {
	HTTP http.Options
	Form store.Form // of chunks; in a directory, plain and compressed ones are found with any
	Wrap Wrap       // put around every single store, below Failover; nil: store.Verify

	// Adjust, if set, returns the options for one location, made of those for all. Its
	// error ends the opening.
	Adjust func(location string, opt Options) (Options, error)

	Log *slog.Logger // nil: discard

	Stdin   io.Reader     // what - stands for; nil: os.Stdin
	Timeout time.Duration // how long Read, Reader and At try to get something; 0: 60 s; < 0: for ever
	Renew   time.Duration // of a Writer's folder: as in local.Options; 0: never
	Memory  int64         // how much of a file behind a network At keeps, in bytes; 0: 64 MiB
}

// A Wrap makes of a store, whose chunks are not verified, one whose chunks are.
type Wrap func(s store.Store, o Origin) store.Store

// An Origin is one place where chunks are.
type Origin struct {
	Location string // as it was given, without the others of its group
	Where    string // path or URL, without secrets
	Remote   bool   // there is a network between
}

// Object opens the folder in which a file lies, and returns the file's name
// there.
func Object(location string, opt Options) (b store.Blobs, name string, err error) {
	s, opt, err := kindOf(location, opt)
	if err != nil {
		return nil, "", err
	}
	return s.object(location, opt)
}

// at are the options for a location.
func (o Options) at(location string) (Options, error) {
	if o.Adjust == nil {
		return o, nil
	}
	adjust := o.Adjust
	o.Adjust = nil
	return adjust(location, o)
}

// Store opens a chunk store, or a group of stores joined by |, for reading. A
// directory must be there. What Get returns is verified.
func Store(location string, opt Options) (store.Store, error) {
	members := strings.Split(location, "|")
	if len(members) == 1 {
		return single(location, opt)
	}
	stores := make([]store.Store, len(members))
	for i, member := range members {
		var err error
		if stores[i], err = single(member, opt); err != nil {
			return nil, err
		}
	}
	return store.Failover(opt.Log, stores...), nil
}

// single opens one store.
func single(location string, opt Options) (store.Store, error) {
	k, opt, err := kindOf(location, opt)
	if err != nil {
		return nil, err
	}
	s, where, err := k.reading(location, opt)
	if err != nil {
		return nil, err
	}
	if opt.Wrap == nil {
		return store.Verify(s), nil
	}
	return opt.Wrap(s, Origin{Location: location, Where: where, Remote: k.remote}), nil
}

// reading opens a store to read from.
func (s scheme) reading(location string, opt Options) (chunks store.Store, where string, err error) {
	if s.chunks != nil {
		c, err := s.chunks(location, opt)
		if err != nil {
			return nil, "", err
		}
		return c, c.String(), nil
	}
	b, err := s.folder(location, opt)
	if err != nil {
		return nil, "", err
	}
	if c, ok := b.(interface{ Check() error }); ok {
		if err := c.Check(); err != nil {
			return nil, "", err
		}
	}
	return store.Chunks(b, s.form(opt)), b.String(), nil
}

// Writer opens a chunk store to write to. A directory is made when the first
// chunk comes. What Get returns is not verified.
func Writer(location string, opt Options) (store.Writer, error) {
	if strings.Contains(location, "|") {
		return nil, errors.New("open: a group of stores (joined by |) cannot be written to; name one of them")
	}
	s, opt, err := kindOf(location, opt)
	if err != nil {
		return nil, err
	}
	if s.chunks != nil {
		c, err := s.chunks(location, opt)
		if err != nil {
			return nil, err
		}
		return c.Writer(), nil
	}
	b, err := s.folder(location, opt)
	if err != nil {
		return nil, err
	}
	return store.Writable(b, s.form(opt))
}

// kindOf is the kind of a location, and the options for it.
func kindOf(location string, opt Options) (scheme, Options, error) {
	s, err := schemeOf(location)
	if err != nil {
		return scheme{}, opt, err
	}
	opt, err = opt.at(location)
	return s, opt, err
}

// form is how chunks lie in a folder.
func (s scheme) form(opt Options) store.Form {
	f := opt.Form
	f.Either = f.Either || !s.remote // over a network a second name costs a round trip
	return f
}

// Reader reads a file whole, from its start: a path (of a pipe or a device too),
// - or a URL. A transfer that breaks off is taken up again where it was, as long
// as the file is still the same.
func Reader(ctx context.Context, location string, opt Options) (io.ReadCloser, store.Info, error) {
	return reader(ctx, location, store.Info{}, opt)
}

// reader is Reader, unless the file is behind a network and the version in
// have.
func reader(ctx context.Context, location string, have store.Info, opt Options) (io.ReadCloser, store.Info, error) {
	if location == "-" {
		if opt.Stdin == nil {
			opt.Stdin = os.Stdin
		}
		return io.NopCloser(opt.Stdin), store.Info{Size: -1}, nil
	}
	s, err := schemeOf(location)
	if err != nil {
		return nil, store.Info{}, err
	}
	if s.path != nil {
		path, err := s.path(location)
		if err != nil {
			return nil, store.Info{}, err
		}
		return openPath(path)
	}
	b, name, err := Object(location, opt)
	if err != nil {
		return nil, store.Info{}, err
	}
	return resume(ctx, b, name, store.Range{}, have, opt)
}

// Read is Reader for what fits into memory: it is an error if there are more
// than limit bytes.
func Read(ctx context.Context, location string, limit int64, opt Options) ([]byte, error) {
	content, _, err := Refresh(ctx, location, store.Info{}, limit, opt)
	return content, err
}
