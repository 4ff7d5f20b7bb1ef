// Package sftp keeps objects in a folder that is reached over SFTP, through the
// system's ssh program: its configuration, keys, agent, known hosts and jump hosts
// count as they do for everybody.
//
// A [Dir] is one folder of one server. The ssh processes behind it, of which each
// carries one SFTP session with many requests in flight, belong to a [Hosts], which
// several folders share. A Dir asks once per call, as store/http does: which errors
// are worth another try it says by their kind (see [store.Blobs]). A session that
// has died is followed by another one; neither silence nor a trickle holds a caller
// longer than [Options].Stall.
//
//	hosts := sftp.NewHosts()
//	defer hosts.Close()
//	d, err := sftp.New("sftp://me@example.com/srv/default.castr", sftp.Options{Hosts: hosts})
//	body, info, err := d.Open(ctx, "1a2b/1a2b….cacnk", store.Range{})
//
// A URL is sftp://[user@]host[:port]/path, as desync and casync's helper (which is
// libcurl) take it: the path is the server's own from its root; one that begins with
// /~/ is relative to the user's home. (OpenSSH's sftp takes all of them as relative.)
// There is no password in it: ssh asks for one on the terminal, if need be.
//
// A new object is written beside its place under a name that [store.Unfinished]
// knows, synced to disk where the server offers fsync@openssh.com, and renamed by
// posix-rename@openssh.com. A server without that is told to rename, and if it will
// not do so over what is there, to remove that first: between the two there is no
// such object.
package sftp

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"caravel/store"
)

// Options tunes a Dir. The zero value is a good choice.
type Options struct {
	Hosts    *Hosts        // nil: one of its own, whose sessions end when they have been idle
	SSH      string        // the ssh program; "": $CASYNC_SSH_PATH, or ssh
	Sessions int           // at most, with one server; 0: 4
	Stall    time.Duration // longest wait for a session, for an answer, and for each further KiB of it; 0: 30 s
	Idle     time.Duration // how long a session without work is kept; 0: 90 s
	NoSync   bool          // do not have the server sync what is put
}

// A Dir is a folder of an SFTP server. Its methods may be called from many
// goroutines, and others may use the folder at the same time.
type Dir struct {
	folder string // as the server takes it; "": its root
	shown  string // the URL, without a slash at the end
	opt    Options
	pool   *pool

	mu       sync.Mutex          // guards unsynced
	unsynced map[string]struct{} // folders in the Dir's, and its parent "..", in which there are new names
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

// New makes a Dir of the folder at an sftp URL, which need not be there: Put makes
// it, but not its parent. Nothing is asked of the server yet.
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
	if name == "" || name == "~" && slash == 0 || checkName(name) != nil {
		return nil, "", fmt.Errorf("%s: names a folder, not a file", l.shown())
	}
	l.path = l.path[:slash]
	return newDir(l, opt), name, nil
}

func newDir(l location, opt Options) *Dir {
	opt.SSH = cmp.Or(opt.SSH, os.Getenv("CASYNC_SSH_PATH"), "ssh")
	opt.Sessions = cmp.Or(opt.Sessions, 4)
	opt.Stall = cmp.Or(opt.Stall, 30*time.Second)
	opt.Idle = cmp.Or(opt.Idle, 90*time.Second)
	if opt.Hosts == nil {
		opt.Hosts = NewHosts()
	}
	return &Dir{
		folder:   l.folder(),
		shown:    strings.TrimRight(l.shown(), "/"),
		opt:      opt,
		pool:     opt.Hosts.pool(key{l.server, opt.SSH, opt.Sessions, opt.Stall, opt.Idle}),
		unsynced: map[string]struct{}{},
	}
}

// String is the folder's URL. It has the user in it, whose home it may be in.
func (d *Dir) String() string { return d.shown }

// Locate is the URL of an object.
func (d *Dir) Locate(name string) string {
	if name == "." {
		return d.shown
	}
	return d.shown + "/" + escape(name)
}

// path is where an object lies on the server.
func (d *Dir) path(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", &failure{where: d.String(), why: err, kind: store.ErrRefused}
	}
	return d.in(name), nil
}

// in is the path of a name on the server; "." is the Dir's own folder.
func (d *Dir) in(name string) string {
	if name == "." && d.folder != "" {
		return d.folder
	}
	return d.folder + "/" + name
}

// checkName keeps out what would leave the folder.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%q is no name in a folder", name)
	}
	return nil
}

// Stat implements store.Statter.
func (d *Dir) Stat(ctx context.Context, name string) (store.Info, error) {
	path, err := d.path(name)
	if err != nil {
		return store.Info{}, err
	}
	s, err := d.session(ctx, name)
	if err != nil {
		return store.Info{}, err
	}
	defer s.leave()
	fi, err := call(ctx, s, func() (os.FileInfo, error) { return s.client.Stat(path) }, nil)
	if err != nil {
		return store.Info{}, d.unreadable(name, err)
	}
	return d.describe(name, fi)
}

// describe is what the server says of a file.
func (d *Dir) describe(name string, fi os.FileInfo) (store.Info, error) {
	switch {
	case !fi.Mode().IsRegular():
		return store.Info{}, d.fail(name, store.ErrRefused, "not a regular file")
	case fi.Size() < 0:
		return store.Info{}, d.fail(name, store.ErrRefused, "the server says that it has %d bytes", fi.Size())
	}
	info := store.Info{Size: fi.Size(), ModTime: fi.ModTime()}
	info.Tag = store.TimeTag(info.Size, info.ModTime, time.Now())
	return info, nil
}

// Delete implements store.Deleter.
func (d *Dir) Delete(ctx context.Context, name string) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	s, err := d.session(ctx, name)
	if err != nil {
		return err
	}
	defer s.leave()
	err = s.tell(ctx, func() error { return s.client.Remove(path) })
	if err != nil && !missing(err) {
		return d.failed(name, err)
	}
	return nil
}

// session is one to work with on an object; whoever gets it leaves it.
func (d *Dir) session(ctx context.Context, name string) (*session, error) {
	s, err := d.pool.get(ctx)
	if err != nil {
		return nil, d.failed(name, err)
	}
	return s, nil
}
