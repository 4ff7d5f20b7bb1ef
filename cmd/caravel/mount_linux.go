package main

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/fusefs"
	"caravel/internal/redact"
	"caravel/supervise"
)

type mountOptions struct {
	lazy      lazyOptions
	pack      packOptions
	what      kind
	name      string
	mkdir     bool
	subtree   string // path in the archive; "": all of it
	shift     idShift
	names     bool // owners are those who have the recorded names here
	words     mountWords
	over      treeOverlay
	show      fusefs.Options // what the words say
	daemon    daemonOptions
	supervise bool
	boss      *supervise.Supervisor // nil: none
}

// mountFlags are those of both commands.
func mountFlags(opt *mountOptions) []cli.Flag {
	opt.mkdir = true
	return append([]cli.Flag{
		mountWordsFlag(&opt.words),
		treeOverlayFlag(&opt.over),
		newSwitch("mkdir", "make DIR if it is not there", &opt.mkdir),
		newSwitch("supervise", "mount again when the process that serves crashes", &opt.supervise),
	}, daemonFlags(&opt.daemon)...)
}

func mountCommand() *cli.Command {
	var opt mountOptions
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
unmount; with --daemon it returns then, and goes on in the background. What is read
is fetched, verified and kept in memory, and in --cache-dir what came over a network.
While nobody reads, the rest follows there, until half of it is full. What comes from
a pipe, or is packed, is copied to a temporary file first.

-o takes the words of mount(8) and fstab(5): noexec, exec, suid and dev (root; else
set-id bits and devices have no effect), allow_other, fsname=, the labels of SELinux
(context= and its kind), uid= and gid=, whose everything is, umask=, fmask= and dmask=,
which permissions nobody has, all others having the rest. Times and writers an image
has none: what is said of them is ignored, but for ro, and root's noatime and its kind,
with --overlay. Any flag here is a word, too. Called mount.fuse.caravel, as
"mount -t fuse.caravel" does, it is mount --daemon.

If mount is killed, reads fail, and the next mount clears away what is left; with
--supervise it is mounted again at once, for those who open files then.

With --overlay the tree of a .caidx, or of a .catar on this machine, can be written:
what is written is kept in a folder that belongs to this image from then on. For root
set-id bits and devices then count, unless -o nosuid,nodev; others need fuse-overlayfs.
With -o ro, what was written is shown and nothing more is.

` + examples(
			"caravel mount http://host/tree.caidx /mnt",
			"# in the background, of another's, without programs",
			"caravel mount --daemon -o uid=backup,umask=027,noexec http://host/tree.caidx /mnt",
			"# a container's part of a system's tree",
			"caravel mount --subtree=srv/web --uid-shift=100000 http://host/os.caidx /mnt",
			"# a line of /etc/fstab",
			"http://host/tree.caidx /mnt fuse.caravel _netdev,nofail,cache-size=2G 0 0",
			"caravel mount http://host/disk.caibx /mnt",
			"qemu-system-x86_64 -snapshot -drive file=/mnt/disk,format=raw",
			"# with what came before, and without a network",
			"caravel mount --offline http://host/tree.caidx /mnt",
			"# what this run touches, a later one has before it asks",
			"caravel mount --record=boot.profile http://host/disk.caibx /mnt",
			"caravel mount --profile=boot.profile http://host/disk.caibx /mnt",
			"# an image that becomes a file while it is used",
			"caravel mount --materialize=disk.img http://host/disk.caibx /mnt",
			"# what is written goes to a folder, and the image stays as it is",
			"caravel mount --overlay=/var/lib/golden http://host/tree.caidx /mnt",
			"# several machines that share a store which nothing is removed from",
			"caravel mount --cache=/net/pool.castr http://host/disk.caibx /mnt",
		),
		Flags: slices.Concat([]cli.Flag{
			whatFlag(&opt.what, archiveKind, archiveIndex, blobIndex, folderKind),
			&cli.StringFlag{Name: "name", Usage: "call the file of a disk image `NAME`", Destination: &opt.name},
			&cli.StringFlag{Name: "subtree", Usage: "show the directory `PATH` of the tree, and fetch no other in the background", Destination: &opt.subtree},
			newSwitch("map-names", "give entries to the users and groups that have the recorded names on this machine, as extract does", &opt.names),
		}, shiftFlags(&opt.shift), mountFlags(&opt), packFlags(&opt.pack), treeFlags(&opt.lazy.source), lazyFlags(&opt.lazy)),
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
			return beginMount(c, std, in, dir, &opt)
		},
	}
}

func mountIndexCommand() *cli.Command {
	opt := mountOptions{what: blobIndex}
	var cor corOptions
	return &cli.Command{
		Name:      "mount-index",
		Category:  lazily,
		Usage:     "what mount does with a disk image, by desync's name",
		ArgsUsage: "INDEX DIR",
		Description: `Shows the image of INDEX (a .caibx: path, URL, "-" for standard input) as one
read-only file in DIR, named like the index without its ending; see mount. Its flags
are desync's as well: a copy-on-read file is what --materialize makes.

` + examples(
			"caravel mount-index http://host/disk.caibx /mnt",
			"# desync's words; caravel mount --materialize does the same",
			"caravel mount-index -s http://host/default.castr --cor-file=/var/tmp/disk.cor disk.caibx /mnt",
		),
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "call the file `NAME`", Destination: &opt.name},
		}, corFlags(&cor), mountFlags(&opt), lazyFlags(&opt.lazy), impliedFlags()),
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("want INDEX and DIR, not %d arguments", c.NArg())
			}
			if err := cor.apply(&opt.lazy); err != nil {
				return err
			}
			return beginMount(c, streamsOf(c), c.Args().Get(0), c.Args().Get(1), &opt)
		},
	}
}

// beginMount mounts in the process in which that is to be done. The words may set opt.
func beginMount(c *cli.Context, std streams, in, dir string, opt *mountOptions) error {
	if err := opt.words.apply(c, opt); err != nil {
		return err
	}
	if err := opt.owners(); err != nil {
		return err
	}
	if err := opt.over.apply(c, &opt.show, opt.words.words); err != nil {
		return err
	}
	if opt.supervise && in == "-" {
		return usagef("--supervise: standard input cannot be read again")
	}
	std, done, err := opt.daemon.begin(c.Context, std)
	if err != nil || done {
		return err
	}
	if opt.supervise {
		if opt.boss, err = supervise.Find(); err != nil {
			return err
		}
		if opt.boss == nil {
			return superviseSelf(c.Context, std, opt.lazy.log.logger(std.log))
		}
	}
	return mount(c.Context, std, in, dir, *opt)
}

// mount mounts what is at a location after finding out what that is.
func mount(ctx context.Context, std streams, in, dir string, opt mountOptions) (err error) {
	k := cmp.Or(opt.what, kindOf(in))
	if k == unknownKind && in == "-" {
		if k, err = std.sniff(); err != nil {
			return err
		}
	}
	if k == blobIndex {
		if err := refuseTree(in); err != nil {
			return err
		}
		if err := opt.over.refuseDisk(in); err != nil {
			return err
		}
	}
	from, err := startLazy(ctx, std, opt.lazy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to := &mountPoint{dir: dir, std: std, boss: opt.boss, subtree: opt.subtree, over: opt.over, opt: opt.show}
	to.opt.FSName = cmp.Or(to.opt.FSName, redact.URL(in))
	to.opt.Mkdir, to.opt.Log = opt.mkdir, from.log
	to.opt.Remove = opt.boss != nil && string(opt.boss.Legacy.State) == removesDir
	if k == archiveKind || k == folderKind {
		if err := opt.lazy.needsNoIndex(in); err != nil {
			return err
		}
		if to.image, err = opt.over.overFile(in, k); err != nil {
			return err
		}
		a, err := from.openArchive(ctx, in, k, opt.pack)
		if err != nil {
			return err
		}
		return to.archive(ctx, a, in)
	}
	src, err := from.image(ctx, in, from.readingOf(k))
	if err != nil {
		return err
	}
	if k == archiveIndex || k == unknownKind && kindOfIndex(src.Index) == archiveIndex {
		return from.mountIndexed(ctx, src, to)
	}
	if opt.subtree != "" {
		return usagef("%s: is a disk image; --subtree is for trees", src.where)
	}
	if err := opt.over.refuseDisk(src.where); err != nil {
		return err
	}
	img, err := from.lazily(src)
	if err != nil {
		return err
	}
	return to.file(ctx, img, opt.name)
}
