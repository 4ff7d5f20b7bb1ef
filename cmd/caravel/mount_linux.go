package main

import (
	"context"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/fusefs"
	"caravel/internal/notify"
)

type mountOptions struct {
	lazy  lazyOptions
	name  string
	mkdir bool
}

func mountCommand() *cli.Command {
	cmd := mountFileCommand("mount")
	cmd.Usage = "show an image as a file without downloading it"
	return cmd
}

func mountIndexCommand() *cli.Command {
	cmd := mountFileCommand("mount-index")
	cmd.Usage = "what mount does with a disk image, by desync's name"
	return cmd
}

func mountFileCommand(name string) *cli.Command {
	opt := mountOptions{mkdir: true}
	return &cli.Command{
		Name:      name,
		Category:  lazily,
		ArgsUsage: "INDEX DIR",
		Description: `Shows the image of INDEX (a .caibx: path, URL, "-" for standard input) as one
read-only file in DIR, named like the index without its ending. Prints "Mounted:
DIR" when it can be read and stays until SIGINT, SIGTERM or an unmount. What is
read is fetched, verified and kept in memory; with --cache the rest follows in
the background.

` + examples(
			"caravel "+name+" http://host/disk.caibx /mnt",
			"caravel "+name+" --cache=/var/cache/disk.castr http://host/disk.caibx /mnt",
			"qemu-system-x86_64 -snapshot -drive file=/mnt/disk,format=raw",
		),
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

func mount(ctx context.Context, std streams, in, dir string, opt mountOptions) error {
	log := opt.lazy.log.logger(std.err)
	from := newLazyOpener(std, opt.lazy, log)
	defer from.Close()
	img, err := from.openIndex(ctx, in)
	if err != nil {
		return err
	}
	defer img.Close()
	if opt.name == "" {
		opt.name = img.name
	}
	m, err := fusefs.MountFile(dir, fusefs.File{
		Name:    opt.name,
		Size:    img.size,
		ModTime: img.modTime,
		Open:    func() fusefs.Reader { return img.reader() },
	}, fusefs.Options{FSName: in, Mkdir: opt.mkdir, Log: log})
	if err != nil {
		return err
	}
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
