// Package open turns what a user typed into backends and stores.
//
// A location is a path, a URL (file, http, https, ssh, sftp, s3, gs, ftp, oci and the like), or
// - for standard input where something is read once, from start to end. Like casync, it
// takes host:path for a place reached over ssh: write ./host:path for a file of that
// name. What other URLs lead to, casync's helper programs find, if there are some:
// casync-SCHEME in $CASYNC_PROTOCOL_PATH. Several stores that are copies of one another
// are joined by |.
//
//	index, err := open.Read(ctx, "https://example.com/disk.caibx", 1<<30, open.Options{})
//	chunks, err := open.Store(open.DefaultStore("https://example.com/disk.caibx"), open.Options{})
//
// A new backend is its own folder and one line of the table in schemes.go.
package open

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/http"
	"caravel/store/limit"
)

// Options says how to open. The zero value is a good choice; to share its
// connections, give HTTP a Client, and a Shared.
type Options struct {
	HTTP     http.Options // of which Stall counts everywhere
	S3       S3           // who we are to S3 servers, where the environment does not say it
	Registry Login        // who we are to an OCI registry, likewise
	Shared   *Shared      // nil: each opening has connections of its own
	Form     store.Form   // of chunks; in a directory, plain and compressed ones are found with any
	Wrap     Wrap         // put around every single store, below Failover; nil: store.Verify

	// Adjust, if set, returns the options for one place, made of those for all. Its error
	// ends the opening.
	Adjust func(at Place, opt Options) (Options, error)

	Log *slog.Logger // nil: discard

	Stdin   io.Reader     // what - stands for; nil: os.Stdin
	Timeout time.Duration // how long Read, Reader and At try to get something; 0: 60 s; < 0: for ever
	Tries   int           // how often they do, until something comes; 0: as often as Timeout allows
	Pause   time.Duration // before their second try, more or less; 0: 100 ms

	Limits limit.Limits  // of what is behind a network
	Renew  time.Duration // of a Writer's folder: as in local.Options; 0: never
	Memory int64         // how much of a file behind a network At keeps, in bytes; 0: 64 MiB
}

// A Place is what is opened.
type Place struct {
	Location string // as it was given, without the others of its group
	File     bool   // a file in a folder; else the folder of a store
}

// S3 are the keys for S3 servers and the region of a bucket, as Credentials in
// store/s3 has them.
type S3 struct {
	AccessKey, SecretKey string
	SessionToken         string
	File                 string
	Profile              string
	Region               string
}

// A Login is a user and a password.
type Login struct{ User, Password string }

// A Wrap makes of a store, whose chunks are not verified, one whose chunks are.
type Wrap func(s store.Store, o Origin) store.Store

// An Origin is one place where chunks are.
type Origin struct {
	Location string     // as it was given, without the others of its group
	Where    string     // path or URL, without secrets
	Remote   bool       // there is a network between
	Key      *store.Key // what its chunks are encrypted with; nil: they are not
}

// Object opens the folder in which a file lies, and returns the file's name
// there.
func Object(location string, opt Options) (b store.Blobs, name string, err error) {
	s, err := schemeOf(location)
	if err != nil {
		return nil, "", err
	}
	if opt, err = opt.at(Place{Location: location, File: true}); err != nil {
		return nil, "", err
	}
	if b, name, err = s.object(location, opt); err == nil && s.remote {
		b = limit.Blobs(b, opt.Limits)
	}
	return b, name, err
}

// at are the options for a place.
func (o Options) at(place Place) (Options, error) {
	if o.Adjust == nil {
		return o, nil
	}
	adjust := o.Adjust
	o.Adjust = nil
	return adjust(place, o)
}

// Store opens a chunk store, or a group of stores joined by |, for reading. A
// directory must be there. What Get returns is verified.
func Store(location string, opt Options) (store.Store, error) {
	members := strings.Split(location, "|")
	if len(members) == 1 {
		s, _, err := single(location, opt)
		return s, err
	}
	stores, group := make([]store.Store, len(members)), store.FailoverOptions{Patience: mostPatience, Log: opt.Log}
	for i, member := range members {
		s, stall, err := single(member, opt)
		if err != nil {
			return nil, err
		}
		stores[i] = s
		if stall > 0 {
			group.Patience = min(group.Patience, stall)
		}
	}
	return store.Failover(group, stores...), nil
}

// mostPatience is how long a store of a group may be silent, however long others may.
const mostPatience = 10 * time.Second

// single opens one store, and says for how long it may be silent; 0: as it likes.
func single(location string, opt Options) (s store.Store, stall time.Duration, err error) {
	k, opt, err := kindOf(location, opt)
	if err != nil {
		return nil, 0, err
	}
	s, origin, err := k.reading(location, opt)
	if err != nil {
		return nil, 0, err
	}
	if opt.Wrap == nil {
		return store.Verify(s), opt.HTTP.Stall, nil
	}
	origin.Location, origin.Remote = location, k.remote
	return opt.Wrap(s, origin), opt.HTTP.Stall, nil
}

// reading opens a store to read from, and says where it is and what it is encrypted with.
func (s scheme) reading(location string, opt Options) (store.Store, Origin, error) {
	if s.chunks != nil {
		c, err := s.chunks(location, opt)
		if err != nil {
			return nil, Origin{}, err
		}
		return limit.Store(c, opt.Limits), Origin{Where: c.String()}, nil
	}
	b, err := s.blobs(location, opt)
	if err == nil {
		err = check(b)
	}
	if err != nil {
		return nil, Origin{}, err
	}
	form := s.form(opt)
	return store.Chunks(b, form), Origin{Where: b.String(), Key: form.Key}, nil
}

// check says whether a backend is there, where it can tell without a request.
func check(b store.Blobs) error {
	if c, ok := b.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

// Folder opens the backend of a chunk store, for those who look at its objects, and
// tells the form of the chunks there. A directory must be there.
func Folder(location string, opt Options) (store.Blobs, store.Form, error) {
	s, opt, err := kindOf(location, opt)
	if err != nil {
		return nil, store.Form{}, err
	}
	if s.chunks != nil {
		return nil, store.Form{}, fmt.Errorf("open: %s: its chunks are no files that can be looked at: go there", redact.URL(location))
	}
	b, err := s.blobs(location, opt)
	if err == nil {
		err = check(b)
	}
	return b, s.form(opt), err
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
	b, err := s.blobs(location, opt)
	if err != nil {
		return nil, err
	}
	return store.Writable(b, s.form(opt))
}

// Key is what the chunks of a store are encrypted with, by all that is said of it; nil:
// nothing. The store is not opened.
func Key(location string, opt Options) (*store.Key, error) {
	s, opt, err := kindOf(location, opt)
	if err != nil {
		return nil, err
	}
	return s.form(opt).Key, nil
}

// kindOf is the kind of a chunk store's location, and the options for it.
func kindOf(location string, opt Options) (scheme, Options, error) {
	s, err := schemeOf(location)
	if err != nil {
		return scheme{}, opt, err
	}
	opt, err = opt.at(Place{Location: location})
	return s, opt, err
}

// blobs opens the backend of a chunk store.
func (s scheme) blobs(location string, opt Options) (store.Blobs, error) {
	b, err := s.folder(location, opt)
	if err == nil && s.remote {
		b = limit.Blobs(b, opt.Limits)
	}
	return b, err
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
