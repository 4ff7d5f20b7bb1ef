// Package ftp keeps objects in a folder of an FTP server, with or without TLS.
//
// A [Dir] is one folder. The connections behind it belong to a [Hosts], which several
// folders share; each carries one transfer at a time, passively. A Dir asks once per
// call, as store/http does: which errors are worth another try it says by their kind
// (see [store.Blobs]). Neither silence nor a trickle holds a caller longer than
// [Options].Stall. Who holds as many bodies open as there may be connections waits
// for himself when he opens another one.
//
// A URL is as libcurl, and so casync's helper, takes it: ftp:// without TLS, ftps://
// with TLS from the start (port 990), user and password in front of the host, else
// anonymous; and, as in FileZilla and lftp, ftpes:// where TLS begins by a command.
// The path is relative to where the login leads; one with two slashes in front is the
// server's own from its root.
//
// A new object is written under a name that [store.Unfinished] knows, and renamed.
// FTP cannot ask for anything to be synced to disk. It has one word for all that
// cannot be read, so a file that nobody may read counts as missing.
package ftp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/jlaffaye/ftp"

	"caravel/store"
)

// Options tunes a Dir. The zero value is a good choice.
type Options struct {
	Hosts *Hosts        // nil: one of its own, whose connections end when they have been idle
	TLS   *tls.Config   // nil: the system's authorities
	Conns int           // at most, with one server; 0: 16
	Stall time.Duration // longest wait for a connection, for an answer, and for each further KiB of it; 0: 30 s
	Idle  time.Duration // how long a connection without work is kept; 0: 30 s
}

// A Dir is a folder of an FTP server. Its methods may be called from many
// goroutines, and others may use the folder at the same time.
type Dir struct {
	folder string // as the server takes it
	shown  string // the URL, without a password, and without a slash at the end
	pool   *pool
}

var (
	_ store.Blobs     = (*Dir)(nil)
	_ store.Statter   = (*Dir)(nil)
	_ store.Refresher = (*Dir)(nil)
	_ store.Putter    = (*Dir)(nil)
	_ store.Lister    = (*Dir)(nil)
	_ store.Deleter   = (*Dir)(nil)
	_ store.Locator   = (*Dir)(nil)
)

// New makes a Dir of the folder at a URL, which need not be there: Put makes it, but
// not its parent. Nothing is asked of the server yet.
func New(location string, opt Options) (*Dir, error) {
	l, err := parse(location)
	if err != nil {
		return nil, err
	}
	return newDir(l, opt), nil
}

// Object makes a Dir of the folder in which the file at a URL lies, and returns the
// file's name there.
func Object(location string, opt Options) (d *Dir, name string, err error) {
	l, err := parse(location)
	if err != nil {
		return nil, "", err
	}
	slash := strings.LastIndexByte(l.path, '/')
	name = l.path[slash+1:]
	if checkName(name) != nil {
		return nil, "", fmt.Errorf("%s: names a folder, not a file", l.shown())
	}
	l.path = l.path[:max(slash, 0)]
	if l.path == "/" {
		l.path = "//" // the root, not where the login leads
	}
	return newDir(l, opt), name, nil
}

func newDir(l location, opt Options) *Dir {
	k := key{
		server: l.server,
		tls:    opt.TLS,
		conns:  cmp.Or(opt.Conns, 16),
		stall:  cmp.Or(opt.Stall, 30*time.Second),
		idle:   cmp.Or(opt.Idle, 30*time.Second),
	}
	hosts := opt.Hosts
	if hosts == nil {
		hosts = NewHosts()
	}
	return &Dir{folder: l.folder(), shown: l.shown(), pool: hosts.pool(k)}
}

// String is the folder's URL. It has the user in it, on whom the place depends.
func (d *Dir) String() string { return strings.TrimRight(d.shown, "/") }

// Locate is the URL of an object.
func (d *Dir) Locate(name string) string {
	if name == "." {
		return d.String()
	}
	return strings.TrimSuffix(d.shown, "/") + "/" + escape(name)
}

// in is the path of a name on the server.
func (d *Dir) in(name string) string {
	if d.folder == "/" {
		return "/" + name
	}
	return d.folder + "/" + name
}

// checkName keeps out what would leave the folder, or the line of a command.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\x00\r\n") {
		return fmt.Errorf("%q is no name in a folder", name)
	}
	return nil
}

// with does something over a connection of its own for that time. The connection is
// used again unless do, or the server, has left it in an unknown state.
func (d *Dir) with(ctx context.Context, name string, do func(c *ftp.ServerConn) error) error {
	if err := checkName(name); err != nil && name != "." {
		return &failure{d.String(), err, store.ErrRefused}
	}
	c, err := d.pool.get(ctx)
	if err != nil {
		return d.failed(ctx, name, err)
	}
	err = do(c.ServerConn)
	c.release(err)
	if err != nil {
		return d.failed(ctx, name, err)
	}
	return nil
}

// Stat implements store.Statter.
func (d *Dir) Stat(ctx context.Context, name string) (info store.Info, err error) {
	err = d.with(ctx, name, func(c *ftp.ServerConn) error {
		info, err = stat(c, d.in(name))
		return err
	})
	return info, err
}

// stat asks for the size of a file, and for its time, which not all servers tell.
func stat(c *ftp.ServerConn, path string) (store.Info, error) {
	size, err := c.FileSize(path)
	if err != nil {
		return store.Info{}, gone(err)
	}
	if size < 0 {
		return store.Info{}, &refusal{fmt.Sprintf("the server says that it has %d bytes", size), store.ErrRefused}
	}
	info := store.Info{Size: size}
	if c.IsGetTimeSupported() {
		if info.ModTime, err = c.GetTime(path); err != nil && !answered(err) {
			return store.Info{}, err
		}
	}
	info.Tag = store.TimeTag(info.Size, info.ModTime, time.Now())
	return info, nil
}

// Delete implements store.Deleter.
func (d *Dir) Delete(ctx context.Context, name string) error {
	return d.with(ctx, name, func(c *ftp.ServerConn) error {
		err := c.Delete(d.in(name))
		if err == nil || !answered(err) {
			return err
		}
		if _, err := c.FileSize(d.in(name)); errors.Is(gone(err), store.ErrMissing) {
			return nil
		}
		return err
	})
}

// Sync implements store.Putter: FTP has no such command.
func (d *Dir) Sync(context.Context) error { return nil }

// Put implements store.Putter. The folders that it needs are made, the Dir's own
// parent excepted.
func (d *Dir) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	temp := store.UnfinishedName(d.in(name))
	stored := false
	err := d.with(ctx, name, func(c *ftp.ServerConn) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		src := &source{r: r, size: size}
		err := c.Stor(temp, src)
		if err != nil && answered(err) && src.read == 0 && src.err == nil {
			d.makeFolders(c, name)
			err = c.Stor(temp, src)
		}
		stored = true
		if src.err != nil {
			return src.err
		}
		if err != nil {
			return err
		}
		if err := arrived(c, temp, src.read); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return rename(c, temp, d.in(name))
	})
	if err != nil && stored {
		d.undo(ctx, temp)
	}
	return err
}

// arrived checks that a file has all bytes that were sent: to the server, a connection
// that ends on the way is the end of the file. One that tells no sizes is believed; it is
// none to read from.
func arrived(c *ftp.ServerConn, path string, sent int64) error {
	size, err := c.FileSize(path)
	switch {
	case err != nil && answered(err):
		return nil
	case err == nil && size != sent:
		return fmt.Errorf("%d bytes have arrived of %d", size, sent)
	}
	return err
}

// undo removes what there is of an object, also for somebody who leaves. That is
// waited for a little: the process may end next.
func (d *Dir) undo(ctx context.Context, temp string) {
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if c, err := d.pool.get(ctx); err == nil {
		c.release(c.Delete(temp)) // else List knows it by its name
	}
}

// A source is the bytes of a new object. Its own error is that of whoever gives
// them.
type source struct {
	r    io.Reader
	size int64 // -1: unknown
	read int64
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.read += int64(n)
	switch {
	case err != nil && err != io.EOF:
		s.err = err
	case s.size >= 0 && (s.read > s.size || err == io.EOF && s.read < s.size):
		s.err = fmt.Errorf("%w: %d bytes instead of %d", io.ErrUnexpectedEOF, s.read, s.size)
		err = s.err
	}
	return n, err
}

// makeFolders makes the Dir's folder and those below it. That one is there already
// servers say in no certain way: what comes next will show.
func (d *Dir) makeFolders(c *ftp.ServerConn, name string) {
	_ = c.MakeDir(d.folder)
	for i, r := range name {
		if r == '/' {
			_ = c.MakeDir(d.in(name[:i]))
		}
	}
}

// rename gives an object its name. A server that does not do so over another one
// has to remove that first: between the two there is no such object.
func rename(c *ftp.ServerConn, from, to string) error {
	err := c.Rename(from, to)
	if err == nil || !answered(err) {
		return err
	}
	if c.Delete(to) != nil {
		return err
	}
	return c.Rename(from, to)
}
