package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/fusefs"
	"caravel/internal/redact"
	"caravel/treeoverlay"
)

// treeOverlay makes a mounted tree writable.
type treeOverlay struct {
	dir      string // that takes what is written; "": the tree is read-only
	readOnly bool   // what was written is shown, and nothing more is
	atime    treeoverlay.Atime
}

func treeOverlayFlag(opt *treeOverlay) cli.Flag {
	return &cli.StringFlag{Name: "overlay", Usage: "make the tree writable, and keep what is written in `DIR`; the image stays as it is", Destination: &opt.dir}
}

// apply takes from the words of -o what concerns an overlay. Where root mounts one, as
// of any file system that can be written, set-id bits and devices count unless they are
// to have no effect: in a system that installs packages they have to.
func (o *treeOverlay) apply(c *cli.Context, show *fusefs.Options, words []string) error {
	if err := refuseEmpty(c, "overlay"); err != nil || o.dir == "" {
		return err
	}
	for _, w := range words { // the last one counts
		switch w {
		case "ro", "rw":
			o.readOnly = w == "ro"
		case "noatime", "atime":
			o.atime.Never = w == "noatime"
		case "nodiratime", "diratime":
			o.atime.NotOfDirs = w == "nodiratime"
		case "strictatime", "nostrictatime":
			o.atime.Always = w == "strictatime"
		}
	}
	if os.Geteuid() == 0 {
		show.SetID = show.SetID || !slices.Contains(words, "nosuid")
		show.Devices = show.Devices || !slices.Contains(words, "nodev")
	}
	return nil
}

// refuseDisk refuses an overlay over what is no tree.
func (o treeOverlay) refuseDisk(where string) error {
	if o.dir == "" {
		return nil
	}
	return usagef("%s: is a disk image, which mkdev --overlay=FILE and nbd-server --overlay=FILE make writable; mount --overlay is for trees", redact.URL(where))
}

// overIndex is the tree of an index.
func overIndex(src *openedImage) treeoverlay.Image {
	return treeoverlay.Image{ID: fmt.Sprintf("%x", src.Index.Sum()), Name: src.where}
}

// overFile is the tree of an archive without an index, if an overlay is to lie over it.
func (o treeOverlay) overFile(in string, k kind) (treeoverlay.Image, error) {
	if o.dir == "" {
		return treeoverlay.Image{}, nil
	}
	path := pathOf(in)
	if k != archiveKind || in == "-" || path == "" {
		return treeoverlay.Image{}, usagef("%s: would not be known again: --overlay is for a .caidx, or a .catar on this machine", redact.URL(in))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return treeoverlay.Image{}, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return treeoverlay.Image{}, err
	}
	return treeoverlay.Image{ID: fmt.Sprintf("%x", fileIdentity(path, st, st.Size())), Name: path}, nil
}

// A mounted is a file system in use.
type mounted interface {
	Done() <-chan struct{}
	Unmount() error
	Removes() bool // whether the directory is removed at the end
}

// An aMount is one, and where it is.
type aMount struct {
	mounted
	dir string
}

// tree mounts a tree, which can be written if there is an overlay.
func (p *mountPoint) tree(ctx context.Context, t fusefs.Tree, open func(off, size int64) fusefs.Reader) (aMount, error) {
	if p.over.dir == "" {
		if err := treeoverlay.Clear(p.dir, p.opt.Log); err != nil {
			return aMount{}, err
		}
		m, err := fusefs.MountTree(p.dir, t, open, p.opt)
		if err != nil {
			return aMount{}, err
		}
		return aMount{m, m.Dir}, nil
	}
	p.image.Part = cleanPath(p.subtree)
	d, err := treeoverlay.Open(ctx, p.over.dir, p.image)
	if err != nil {
		return aMount{}, fmt.Errorf("--overlay: %w", err)
	}
	below := p.opt
	below.Mkdir, below.Remove, below.Others = false, false, false // nobody else looks there
	m, err := d.Mount(ctx, p.dir, func(dir, known string) (treeoverlay.Lower, error) {
		below.Known = known
		return fusefs.MountTree(dir, t, open, below)
	}, treeoverlay.Options{
		FSName: p.opt.FSName, Mkdir: p.opt.Mkdir, Remove: p.opt.Remove, Others: p.opt.Others, ReadOnly: p.over.readOnly, Atime: p.over.atime,
		SetID: p.opt.SetID, Devices: p.opt.Devices, NoExec: p.opt.NoExec, Labels: p.opt.Labels, Log: p.opt.Log,
	})
	if err != nil {
		return aMount{}, errors.Join(fmt.Errorf("--overlay: %w", err), d.Close())
	}
	return aMount{overlaid{m, d}, m.Dir}, nil
}

// An overlaid is a writable tree, and the folder that it has taken.
type overlaid struct {
	*treeoverlay.Mount
	dir *treeoverlay.Dir
}

// Unmount ends the mount and gives the folder back.
func (o overlaid) Unmount() error { return errors.Join(o.Mount.Unmount(), o.dir.Close()) }
