package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/internal/progress"
	"caravel/store"
)

type makeOptions struct {
	what          kind
	pack          packOptions
	stores        []string
	noStore       bool
	noTree        bool
	noDigest      bool
	cache         string // a folder; "": none
	cacheAuto     bool
	bases         []string // indexes
	fsSize        bool
	input         string // disk or tar, which IN has to be; "": what it is
	platform      string // of a container's image; "": not said
	bestEffort    bool   // leave out of a tar stream what an archive cannot keep
	params        chunker.Params
	form          store.Form
	formSaid      bool
	reach         reachOptions
	crypt         encryptionOptions
	checkExisting bool
	noSync        bool
	printStats    bool
	workers       int           // 0: not said
	timeout       time.Duration // 0: for ever
	progress      progress.Mode
	log           logOptions
	json          bool
}

func makeCommand() *cli.Command {
	opt := makeOptions{params: chunker.DefaultParams(), form: store.Form{Either: true}, timeout: 60 * time.Second}
	storeFlag := newList("store", "put chunks into `STORE`", &opt.stores, "s")
	storeFlag.EnvVars = []string{"CASYNC_STORE"}
	return &cli.Command{
		Name:      "make",
		Category:  images,
		Usage:     "cut a directory or a disk image into chunks, or pack a directory",
		ArgsUsage: "[IMAGE [FROM]]",
		Description: `Makes of a directory a .caidx, whose chunks go into a store, or a .catar, which
holds everything; of a .catar, too, a .caidx; of a disk image (a file, a block
device, a pipe, "-" for standard input) a .caibx. A tree may also come as a tar
stream, also packed with gzip, zstd, xz or bzip2, in any order, and as a container's
image on this disk: oci:DIR:TAG, where DIR is an OCI image layout, or a tar of it or of
docker save. What is in there that an archive cannot keep is listed, and nothing is
made, unless with --best-effort. The store is default.castr
beside the index if none is named. IMAGE may be "-" for standard output: a .catar
of a directory, else a .caibx. If nothing is named, trees are made of the current
directory, and the rest of standard input. A block device ends where the ext2 to
ext4, squashfs or Android boot image on it does. Beside a .caidx comes a sidecar,
.caidx.tree, so that the tree can be looked through before its chunks are there;
caravel tree writes one later. With --encryption chunks are encrypted and the
index is not; a sidecar, which is not either, is only written with --no-tree=no.
Prints the digest of the whole, unless --no-digest is there: it is the one work that
cannot be shared among cores, and also has every zero of a hole hashed.

With --cache a file whose inode, size and times are the same as when the last image of the
directory was made is not read, if the chunks that it is in are the same and in the store. For
the digest, all that follows the first change is read. What was changed in the last
two seconds before make is read the next time, too; on file systems that have no time of
change of their own (squashfs, FUSE, FAT, SMB and the like) all is.

With --base the work does not wait for a store behind a network to say that it has the
chunks of a former image: it is asked for them beside that, 128 at one time, while each
other chunk takes a round trip. Some are asked for first; if one of these is missing, the
base does not count. If one is missing that the image needs, nothing is made: leave out
--base then.

IMAGE and STORE may be URLs: of a web server that takes files (PUT), a bucket (s3, gs),
an SFTP or FTP server, a registry (oci+https), or a place behind an ssh (host:path). The
index comes last, when all of its chunks are stored.

What make itself writes below the directory, its store too, is left out.

` + examples(
			"caravel make tree.caidx /srv/tree",
			"caravel make --with=unix tree.catar /srv/tree",
			"caravel make - /srv/tree | ssh host caravel extract --what=archive - /srv/tree",
			"caravel make disk.caibx disk.img",
			"caravel make --cache-auto --no-digest tree.caidx /srv/tree",
			"caravel make --encryption-key-file=/etc/caravel/key disk.caibx disk.img",
			"caravel make --store=/srv/www/pool.castr /srv/www/disk.caibx /dev/vg/root",
			"caravel make https://me:secret@host/images/disk.caibx disk.img",
			"zcat disk.img.gz | caravel make disk.caibx -",
			"caravel make tree.caidx rootfs.tar.xz",
			"caravel make --platform=linux/arm64 tree.caidx oci:layout:latest",
			"caravel make --base=https://host/images/disk.caibx https://me:secret@host/images/next.caibx disk.img",
			"# what the index would be, without storing anything",
			"caravel make --no-store - disk.img | sha256sum",
		),
		Flags: slices.Concat([]cli.Flag{
			storeFlag,
			newSwitch("no-store", "write the index only, and of a tree its sidecar", &opt.noStore),
			newSwitch("no-tree", "write no sidecar beside the index of a tree", &opt.noTree),
			compressionFlag(&opt.form),
			newSwitch("no-digest", "do not find out the digest of the whole, which is several times as fast where the chunks are there", &opt.noDigest),
			newList("base", "do not wait for the store to say that it has the chunks of `INDEX`, a path or URL, of an image that is in there; may be repeated", &opt.bases),
			&cli.StringFlag{Name: "cache", Usage: "remember in `DIR` of which files a .caidx was made, and do not read again what is unchanged", Destination: &opt.cache},
			newSwitch("cache-auto", "have the cache in FROM/.cacac, which is not packed", &opt.cacheAuto, "c"),
			whatFlag(&opt.what, archiveKind, archiveIndex, blobIndex),
			newSwitch("fs-size", "end an image file, too, where the file system in it does, which may also be XFS, Btrfs, EROFS, FAT, exFAT, NTFS, F2FS or ISO 9660", &opt.fsSize),
			&cli.StringFlag{Name: "platform", Usage: "take the container's image for `OS/ARCH`, or OS/ARCH/VARIANT", DefaultText: "this machine's, or the only one", Destination: &opt.platform},
			bestEffortFlag(&opt.bestEffort),
			newSwitch("check-existing", "read the chunks that the store has and rewrite damaged ones", &opt.checkExisting),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			makeWorkersFlag(&opt.workers),
			writeTimeoutFlag(&opt.timeout),
			newSwitch("print-stats", "print to standard error, as JSON, how many chunks there are, in desync's words", &opt.printStats),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, encryptionFlags(&opt.crypt), packFlags(&opt.pack), chunkSizeFlags(&opt.params), reachFlags(&opt.reach), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			switch {
			case opt.pack.features.wantsHelp():
				return printFeatures(c.App.Writer)
			case c.NArg() > 2:
				return usagef("want IMAGE and FROM, not %d arguments", c.NArg())
			}
			opt.formSaid = c.IsSet("compression")
			out, in := argument(c, 0, "-"), argument(c, 1, "")
			k, in, err := opt.kindOf(out, in, c.NArg() < 2, streamsOf(c).fed())
			if err != nil {
				return err
			}
			m := &maker{makeOptions: opt, std: streamsOf(c), kind: k, out: out, in: in, treeSaid: c.IsSet("no-tree")}
			return m.run(c.Context)
		},
	}
}

// kindOf settles what is made of what, and refuses what cannot be made before
// anything is touched. absent says that no source was named, which is not the
// same as an empty name; fed that there is something on standard input.
func (o makeOptions) kindOf(out, in string, absent, fed bool) (kind, string, error) {
	k := o.what
	if k == unknownKind && out != "-" {
		k = kindByName(out)
	}
	tree := k == archiveKind || k == archiveIndex
	switch {
	case absent && tree:
		in = "."
	case absent && fed:
		in = "-"
	}
	st, err := os.Stat(in)
	isFolder := err == nil && st.IsDir()
	cached := in != "" && o.cachePlace(in) != ""
	switch {
	case in == "":
		return "", "", usagef("name what to make the image of: a directory, a file, or - for standard input")
	case k == unknownKind && out != "-":
		return "", "", usagef("%s: an image's name ends in .caidx, .catar or .caibx; others need --what", out)
	case k == unknownKind && isFolder:
		k = archiveKind
	case k == unknownKind:
		k = blobIndex
	case k == blobIndex && isFolder:
		return "", "", fmt.Errorf("%s: is a directory, of which a .caidx or a .catar is made", in)
	}
	switch {
	case k == blobIndex && containerRef(in) != "":
		return "", "", usagef("%s: of a container's image a .caidx or a .catar is made", in)
	case o.platform != "" && containerRef(in) == "":
		return "", "", usagef("--platform is for containers' images, which begin with oci:")
	case o.fsSize && k != blobIndex:
		return "", "", usagef("--fs-size is for disk images")
	case cached && k == archiveIndex && err != nil && in != "-" && containerRef(in) == "" && pathOf(in) != "":
		return "", "", err
	case cached && (k != archiveIndex || !isFolder):
		return "", "", usagef("--cache is for a .caidx that is made of a directory")
	case len(o.stores) > 1:
		return "", "", usagef("want one --store to put chunks into, not %d", len(o.stores))
	case k == archiveKind:
		return k, in, nil
	}
	if err := o.params.Cuttable(); err != nil {
		return "", "", usagef("%v", err)
	}
	return k, in, nil
}
