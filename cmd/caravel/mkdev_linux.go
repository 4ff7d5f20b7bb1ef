package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"caravel/fusefs"
	"caravel/internal/notify"
	"caravel/loop"
	"caravel/store/http"
)

type mkdevOptions struct {
	lazy      lazyOptions
	blockSize int64
}

func mkdevCommand() *cli.Command {
	opt := mkdevOptions{blockSize: 512}
	return &cli.Command{
		Name:      "mkdev",
		Category:  lazily,
		Usage:     "attach an image as a block device without downloading it",
		ArgsUsage: "INDEX|FILE [LINK]",
		Description: `Attaches the image as a read-only block device: a loop device over a file that
is fetched as it is read. Its size is rounded up to whole sectors with zeros.
Prints "Attached: DEVICE" when it can be read, makes the symbolic link LINK to it
if one is named, and stays until SIGINT or SIGTERM. Needs root. What is kept, and
what is fetched in the background, is as in caravel mount.

` + examples(
			"caravel mkdev http://host/disk.caibx",
			"caravel mkdev http://host/disk.caibx /dev/disk/by-label/golden",
			"mount -o ro /dev/loop0 /mnt",
		),
		Flags: append([]cli.Flag{
			&cli.GenericFlag{Name: "block-size", Usage: "make sectors of `SIZE` bytes: 512 to 4096", Value: sizeValue(&opt.blockSize)},
		}, lazyFlags(&opt.lazy)...),
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return usagef("want INDEX or FILE and perhaps LINK, not %d arguments", c.NArg())
			}
			if n := opt.blockSize; n < 512 || n > 4096 || n&(n-1) != 0 {
				return usagef("--block-size=%d: want 512, 1K, 2K or 4K", n)
			}
			return mkdev(c.Context, streamsOf(c), c.Args().Get(0), c.Args().Get(1), opt)
		},
	}
}

// mkdev stacks the device: image, file in a folder of our own, loop device,
// link; it is taken down in the opposite order.
func mkdev(ctx context.Context, std streams, in, link string, opt mkdevOptions) (err error) {
	from, err := startLazy(ctx, std, opt.lazy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	img, err := from.open(ctx, in)
	if err != nil {
		return err
	}
	defer img.Close()
	dir, err := os.MkdirTemp("", "caravel-mkdev")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	padded, size := loop.Pad(img.reader(), img.size, int(opt.blockSize))
	m, err := fusefs.MountFile(dir, fusefs.File{
		Name:    img.name,
		Size:    size,
		Mode:    0o400,
		UID:     uint32(os.Geteuid()), // who is not root learns what takes root
		ModTime: img.modTime,
		Reader:  padded,
	}, fusefs.Options{FSName: http.Redact(in), Log: from.log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Unmount()) }()
	dev, err := loop.Attach(m.Dir+"/"+img.name, loop.Options{SectorSize: int(opt.blockSize), Name: http.Redact(in)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Detach()) }()
	if link != "" {
		if err := os.Symlink(dev.Path, link); err != nil {
			return err
		}
		defer removeLink(link, dev.Path)
	}
	if err := announce(std, "Attached: "+dev.Path, notify.Ready, "DEVICE="+dev.Path); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		_ = notify.Send(notify.Stopping)
		return nil
	case <-m.Done():
		return fmt.Errorf("the mount below %s is gone", dev.Path)
	}
}

// removeLink removes the link that mkdev made, unless it is another's by now.
func removeLink(link, to string) {
	if now, err := os.Readlink(link); err == nil && now == to {
		os.Remove(link)
	}
}
