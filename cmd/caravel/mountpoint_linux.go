package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"

	"caravel/archive"
	"caravel/catar/tree"
	"caravel/fusefs"
	"caravel/internal/notify"
	"caravel/supervise"
	"caravel/treeoverlay"
)

// A mountPoint is where something is mounted, and how.
type mountPoint struct {
	dir     string
	std     streams
	boss    *supervise.Supervisor // nil: none
	subtree string                // what of a tree is shown; "": all
	over    treeOverlay
	image   treeoverlay.Image // what over lies over
	opt     fusefs.Options
}

// part finds the directory that is shown of a tree, as sure as the archive is.
func (p *mountPoint) part(ctx context.Context, t *archive.Random) (tree.ID, error) {
	if cleanPath(p.subtree) == "" {
		return tree.Root, nil
	}
	at, err := t.Find(ctx, cleanPath(p.subtree))
	if err == nil {
		err = t.ConfirmPath(ctx, at.ID)
	}
	if err == nil && !isDirMode(at.Mode) {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return 0, fmt.Errorf("--subtree=%s: %w", p.subtree, err)
	}
	p.opt.Look.Root = at.ID
	return at.ID, nil
}

// archive mounts the tree of an archive without an index.
func (p *mountPoint) archive(ctx context.Context, a archive.Archive, in string) error {
	defer a.Close()
	t, err := a.Random(ctx)
	if err != nil {
		return within(in, err)
	}
	if _, err := p.part(ctx, t); err != nil {
		return within(in, err)
	}
	p.opt.Passthrough = -1
	m, err := p.tree(ctx, t.Tree, func(off, size int64) fusefs.Reader { return t.File(off, size) })
	if err != nil {
		return err
	}
	return p.serve(ctx, m)
}

// file mounts a disk image as one file.
func (p *mountPoint) file(ctx context.Context, img *lazyImage, name string) error {
	defer img.Close()
	p.opt.Holes = img.holes
	if err := treeoverlay.Clear(p.dir, p.opt.Log); err != nil {
		return err
	}
	m, err := fusefs.MountFile(p.dir, fusefs.File{
		Name:    cmp.Or(name, img.name),
		Size:    img.size,
		ModTime: img.modTime,
		Open:    func() fusefs.Reader { return img.reader() },
	}, p.opt)
	if err != nil {
		return err
	}
	return p.serve(ctx, aMount{m, m.Dir})
}

// What a mount leaves to the one that is to come after it: whether that removes the
// directory at the end.
const (
	leavesDir  = "leave DIR"
	removesDir = "remove DIR"
)

// serve stays until the mount ends, is to end, or another process is to mount it.
func (p *mountPoint) serve(ctx context.Context, m aMount) error {
	if p.boss != nil && len(p.boss.Legacy.State) > 0 {
		p.opt.Log.Info("mounted again", "dir", m.dir)
	} else if err := announce(p.std, "Mounted: "+m.dir, notify.Ready); err != nil {
		return errors.Join(err, m.Unmount())
	}
	state := leavesDir
	if m.Removes() {
		state = removesDir
	}
	// From now on it is mounted again.
	if err := p.boss.Leave(supervise.Legacy{State: []byte(state)}); err != nil {
		return errors.Join(err, m.Unmount())
	}
	select {
	case <-m.Done():
		return m.Unmount() // which says why, if it was to end in another way
	case <-p.boss.GiveWay():
		return m.Unmount()
	case <-ctx.Done():
		_ = notify.Send(notify.Stopping)
		return m.Unmount()
	}
}
