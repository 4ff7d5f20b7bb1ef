package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"caravel/store"
)

// putBlock is how much of an object is on its way to the server at a time, in
// requests of 32 KiB: all of most chunks.
const putBlock = 256 << 10

// Put implements store.Putter. The folders that it needs are made, the Dir's own
// parent excepted.
func (d *Dir) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	target, err := d.path(name)
	if err != nil {
		return err
	}
	s, err := d.session(ctx, name)
	if err != nil {
		return err
	}
	defer s.leave()
	p := &put{dir: d, ctx: ctx, session: s, folder: path.Dir(name), target: target, temp: store.UnfinishedName(target)}
	if err := p.run(r, size); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return d.failed(name, err)
	}
	d.named(p)
	return nil
}

// named takes note of the folders in which there is something new.
func (d *Dir) named(p *put) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsynced[p.folder] = struct{}{}
	if !p.made {
		return
	}
	for folder := p.folder; folder != "."; {
		folder = path.Dir(folder)
		d.unsynced[folder] = struct{}{}
	}
	d.unsynced[".."] = struct{}{}
}

// A put is one object on its way to the server.
type put struct {
	dir          *Dir
	ctx          context.Context
	session      *session
	folder       string // of the object, in the Dir's
	target, temp string // paths on the server
	file         *sftp.File
	made         bool // a folder had to be
}

func (p *put) run(r io.Reader, size int64) error {
	if err := p.create(); err != nil {
		return err
	}
	err := p.copy(r, size)
	if err == nil && !p.dir.opt.NoSync {
		err = p.sync(p.file)
	}
	if err != nil {
		p.undo(p.file)
		return err
	}
	if err := p.session.tell(p.ctx, p.file.Close); err != nil {
		p.undo(nil)
		return err
	}
	if err := p.rename(); err != nil {
		p.undo(nil)
		return err
	}
	return nil
}

// create makes the file under its temporary name, and the folders that it lacks.
func (p *put) create() error {
	const tries = 3 // somebody may remove empty folders meanwhile
	s, err := p.session, error(nil)
	for range tries {
		p.file, err = call(p.ctx, s, func() (*sftp.File, error) {
			return s.client.OpenFile(p.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		}, func(f *sftp.File) { p.forget(f) })
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p.made = true
		if err := p.makeFolders(); err != nil {
			return err
		}
	}
	return fmt.Errorf("no such folder: %s", parentOf(p.dir.shown))
}

// makeFolders makes the Dir's folder and those below it. That one is there already
// servers say in no certain way: what comes next will show.
func (p *put) makeFolders() error {
	folder := "."
	for _, part := range append([]string{"."}, strings.Split(p.folder, "/")...) {
		folder = path.Join(folder, part)
		err := p.session.tell(p.ctx, func() error { return p.session.client.Mkdir(p.dir.in(folder)) })
		if err != nil && (!answered(err) || errors.Is(err, fs.ErrPermission)) {
			return err
		}
	}
	return nil
}

// copy writes the bytes, from memory that nobody else has: a call that is left
// alone may go on reading it.
func (p *put) copy(r io.Reader, size int64) error {
	block := int64(putBlock)
	if size >= 0 {
		block = min(block, size+1) // at which the end shows
	}
	buf := make([]byte, block)
	for off := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return err
		}
		if n > 0 {
			if err := p.session.tell(p.ctx, func() error { _, err := p.file.WriteAt(buf[:n], off); return err }); err != nil {
				return err
			}
		}
		off += int64(n)
		switch {
		case end && size >= 0 && off != size:
			return fmt.Errorf("%w: %d bytes instead of %d", io.ErrUnexpectedEOF, off, size)
		case size >= 0 && off > size:
			return fmt.Errorf("more than the %d bytes that were announced", size)
		case end:
			return p.ctx.Err()
		}
	}
}

// sync has the server write a file, or a folder, to disk, if it can.
func (p *put) sync(f *sftp.File) error {
	if _, ok := p.session.client.HasExtension("fsync@openssh.com"); !ok {
		return nil
	}
	return p.session.tell(p.ctx, f.Sync)
}

// rename gives the object its name.
func (p *put) rename() error {
	c := p.session.client
	if _, ok := c.HasExtension("posix-rename@openssh.com"); ok {
		return p.session.tell(p.ctx, func() error { return c.PosixRename(p.temp, p.target) })
	}
	err := p.session.tell(p.ctx, func() error { return c.Rename(p.temp, p.target) })
	if err == nil || !answered(err) {
		return err
	}
	if err2 := p.session.tell(p.ctx, func() error { return c.Remove(p.target) }); err2 != nil {
		return err
	}
	return p.session.tell(p.ctx, func() error { return c.Rename(p.temp, p.target) })
}

// undo removes what there is of an object, also for somebody who leaves; f is nil if
// it is closed. That is waited for a little: the process may end next.
func (p *put) undo(f *sftp.File) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), ending)
	defer cancel()
	_ = p.session.tell(ctx, func() error {
		p.forget(f)
		return nil
	})
}

func (p *put) forget(f *sftp.File) {
	if f != nil {
		closeFile(f)
	}
	_ = p.session.client.Remove(p.temp) // else List knows it by its name
}

// Sync returns when the names that Put has given would survive a power cut, as far
// as the server lets us say: it is asked to sync their folders.
func (d *Dir) Sync(ctx context.Context) error {
	d.mu.Lock()
	folders := d.unsynced
	d.unsynced = map[string]struct{}{}
	d.mu.Unlock()
	if len(folders) == 0 || d.opt.NoSync {
		return nil
	}
	const atOnce = 32
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for folder := range folders {
		g.Go(func() error { return d.syncFolder(ctx, folder) })
	}
	err := g.Wait()
	if err == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for folder := range folders {
		d.unsynced[folder] = struct{}{}
	}
	return d.failed(".", err)
}

// syncFolder syncs a folder; most servers' systems open it like a file.
func (d *Dir) syncFolder(ctx context.Context, folder string) error {
	s, err := d.pool.get(ctx)
	if err != nil {
		return err
	}
	defer s.leave()
	if _, ok := s.client.HasExtension("fsync@openssh.com"); !ok {
		return nil
	}
	f, err := call(ctx, s, func() (*sftp.File, error) { return s.client.Open(d.in(folder)) }, closeFile)
	if err == nil {
		err = s.tell(ctx, f.Sync)
		s.spawn(func() { closeFile(f) })
	}
	if answered(err) && ctx.Err() == nil {
		return nil // it has no such idea of a folder
	}
	return err
}

// parentOf is the URL of the folder in which a folder lies.
func parentOf(shown string) string { return shown[:strings.LastIndexByte(shown, '/')] }
