package main

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/archive"
	"caravel/fusefs"
	"caravel/internal/notify"
)

type mountOptions struct {
	lazy  lazyOptions
	pack  packOptions
	what  kind
	name  string
	mkdir bool
}

func mountCommand() *cli.Command {
	opt := mountOptions{mkdir: true}
	return &cli.Command{
		Name:      "mount",
		Category:  lazily,
		Usage:     "show an image as a directory or a file without downloading it",
		ArgsUsage: "[IMAGE] DIR",
		Description: `Shows the tree of IMAGE, read-only, in DIR: a .caidx or .catar (a path, a URL, "-"
for standard input, as if only DIR is named) or another directory as it would be
packed now. Of a disk image, a .caibx, DIR shows one file, named like the index
without its ending.
Prints "Mounted: DIR" when it can be read and stays until SIGINT, SIGTERM or an
unmount. What is read is fetched, verified and kept in memory; with --cache the
rest follows in the background. What comes from a pipe, or is packed, is copied
to a temporary file first.

` + examples(
			"caravel mount http://host/tree.caidx /mnt",
			"caravel mount http://host/disk.caibx /mnt",
			"caravel mount --cache=/var/cache/disk.castr http://host/disk.caibx /mnt",
			"qemu-system-x86_64 -snapshot -drive file=/mnt/disk,format=raw",
		),
		Flags: slices.Concat([]cli.Flag{
			whatFlag(&opt.what, archiveKind, archiveIndex, blobIndex, folderKind),
			&cli.StringFlag{Name: "name", Usage: "call the file of a disk image `NAME`", Destination: &opt.name},
			newSwitch("mkdir", "make DIR if it is not there", &opt.mkdir),
		}, packFlags(&opt.pack), lazyFlags(&opt.lazy)),
		Action: func(c *cli.Context) error {
			std, in, dir := streamsOf(c), c.Args().Get(0), c.Args().Get(1)
			// An image that is named alone lacks its DIR.
			if c.NArg() == 1 && std.fed() && kindByName(in) == unknownKind {
				in, dir = "-", in
			}
			switch {
			case opt.pack.features.wantsHelp():
				return printFeatures(c.App.Writer)
			case c.NArg() == 2 && dir == "":
				return usagef("DIR is empty")
			case c.NArg() > 2 || dir == "":
				return usagef("want IMAGE and DIR, not %d arguments", c.NArg())
			}
			return mount(c.Context, std, in, dir, opt)
		},
	}
}

func mountIndexCommand() *cli.Command {
	opt := mountOptions{mkdir: true, what: blobIndex}
	return &cli.Command{
		Name:      "mount-index",
		Category:  lazily,
		Usage:     "what mount does with a disk image, by desync's name",
		ArgsUsage: "INDEX DIR",
		Description: `Shows the image of INDEX (a .caibx: path, URL, "-" for standard input) as one
read-only file in DIR, named like the index without its ending; see mount.

` + examples("caravel mount-index http://host/disk.caibx /mnt"),
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "call the file `NAME`", Destination: &opt.name},
			newSwitch("mkdir", "make DIR if it is not there", &opt.mkdir),
		}, lazyFlags(&opt.lazy), impliedFlags()),
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("want INDEX and DIR, not %d arguments", c.NArg())
			}
			return mount(c.Context, streamsOf(c), c.Args().Get(0), c.Args().Get(1), opt)
		},
	}
}

// mount mounts what is at a location after finding out what that is.
func mount(ctx context.Context, std streams, in, dir string, opt mountOptions) error {
	k := cmp.Or(opt.what, kindOf(in))
	if k == unknownKind && in == "-" {
		var err error
		if k, err = std.sniff(); err != nil {
			return err
		}
	}
	if k == blobIndex {
		if err := refuseTree(in); err != nil {
			return err
		}
	}
	log := opt.lazy.log.logger(std.err)
	from := newLazyOpener(std, opt.lazy, log)
	defer from.Close()
	show := fusefs.Options{FSName: in, Mkdir: opt.mkdir, Log: log}
	if k == archiveKind || k == folderKind {
		a, err := from.openArchive(ctx, in, k, opt.pack)
		if err != nil {
			return err
		}
		return mountTree(ctx, std, a, in, dir, show)
	}
	src, err := from.image(ctx, in)
	if err != nil {
		return err
	}
	if cmp.Or(k, kindOfIndex(src.index)) == archiveIndex {
		return mountTree(ctx, std, from.indexed(src), in, dir, show)
	}
	return mountFile(ctx, std, from.lazily(in, src), dir, opt.name, show)
}

func mountTree(ctx context.Context, std streams, a archive.Archive, in, dir string, opt fusefs.Options) error {
	defer a.Close()
	t, err := a.Random(ctx)
	if err != nil {
		return within(in, err)
	}
	m, err := fusefs.MountTree(dir, t.Tree, func(off, size int64) fusefs.Reader { return t.File(off, size) }, opt)
	if err != nil {
		return err
	}
	return serve(ctx, std, m)
}

func mountFile(ctx context.Context, std streams, img *lazyImage, dir, name string, opt fusefs.Options) error {
	defer img.Close()
	m, err := fusefs.MountFile(dir, fusefs.File{
		Name:    cmp.Or(name, img.name),
		Size:    img.size,
		ModTime: img.modTime,
		Open:    func() fusefs.Reader { return img.reader() },
	}, opt)
	if err != nil {
		return err
	}
	return serve(ctx, std, m)
}

// serve stays until the mount ends or is to end.
func serve(ctx context.Context, std streams, m *fusefs.Mount) error {
	if err := announce(std, "Mounted: "+m.Dir, notify.Ready); err != nil {
		return errors.Join(err, m.Unmount())
	}
	select {
	case <-m.Done():
		return nil
	case <-ctx.Done():
		_ = notify.Send(notify.Stopping)
		return m.Unmount()
	}
}
