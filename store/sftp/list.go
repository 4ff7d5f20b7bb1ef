package sftp

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"

	"caravel/store"
)

// List gives the names of all objects, folders within folders, without what
// unfinished writers have left there.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		folder, start := path.Split(prefix)
		folder = path.Clean(folder)
		if !fs.ValidPath(folder) {
			yield("", &failure{d.String(), fmt.Errorf("prefix %q leads elsewhere", prefix), store.ErrRefused})
			return
		}
		s, err := d.pool.get(ctx)
		if err != nil {
			yield("", d.failed(".", err))
			return
		}
		defer s.leave()
		if err := s.tell(ctx, func() error { _, err := s.client.Stat(d.in(".")); return err }); err != nil {
			yield("", d.unreadable(".", err))
			return
		}
		l := lister{d, s, yield}
		l.list(ctx, folder, start)
	}
}

// A lister is one listing under way.
type lister struct {
	dir     *Dir
	session *session
	yield   func(string, error) bool
}

// list gives the names below folder, if its own part of the name begins with start.
// It returns false when it is to be the last.
func (l lister) list(ctx context.Context, folder, start string) bool {
	s := l.session
	entries, err := call(ctx, s, func() ([]os.FileInfo, error) { return s.client.ReadDir(l.dir.in(folder)) }, nil)
	if err != nil && !missing(err) {
		l.yield("", l.dir.failed(folder, err))
		return false
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), start) || store.Unfinished(e.Name()) {
			continue
		}
		name := path.Join(folder, e.Name())
		if checkName(name) != nil || strings.Contains(e.Name(), "/") {
			continue // a name that nobody can ask for
		}
		if !l.entry(ctx, name, e) {
			return false
		}
	}
	return true
}

// entry gives what is found under a name.
func (l lister) entry(ctx context.Context, name string, e os.FileInfo) bool {
	mode := e.Mode()
	if mode.Type() == fs.ModeSymlink { // Open follows it, but a folder behind one may be its own
		fi, err := call(ctx, l.session, func() (os.FileInfo, error) { return l.session.client.Stat(l.dir.in(name)) }, nil)
		switch {
		case err != nil && answered(err):
			return true // it leads nowhere
		case err != nil:
			l.yield("", l.dir.failed(name, err))
			return false
		case fi.IsDir():
			return true
		}
		mode = fi.Mode()
	}
	switch {
	case mode.IsDir():
		return l.list(ctx, name, "")
	case mode.IsRegular():
		return l.yield(name, nil)
	}
	return true
}
