package main

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/nbd"
	"caravel/overlay"
)

// overlayOptions make a disk that can be written of an image.
type overlayOptions struct {
	file string // that takes what is written; "": the disk is read-only
	size int64  // of the disk; 0: the image's
}

func overlayFlags(opt *overlayOptions) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "overlay", Usage: "make the disk writable, and keep what is written in `FILE`; the image stays as it is", Destination: &opt.file},
		&cli.GenericFlag{Name: "overlay-size", Usage: "make the writable disk of `SIZE` bytes, with zeros behind the image; an overlay that is there already keeps its own", DefaultText: "the image's, in whole sectors", Value: overlaySizeValue(&opt.size)},
	}
}

// overlaySizeValue is a size that there can be. A variable that is 0 says that there
// was none.
func overlaySizeValue(to *int64) cli.Generic {
	parse := func(s string) (int64, error) {
		n, err := chunker.ParseSize(s)
		if err == nil && n == 0 {
			err = errors.New("a disk has more than 0 bytes")
		}
		return n, err
	}
	return &value[int64]{to, parse, showSize}
}

func (o overlayOptions) check() error {
	if o.size != 0 && o.file == "" {
		return usagef("--overlay-size goes with --overlay")
	}
	return nil
}

// refuseEmpty refuses flags that were given and say nothing, as a script's do whose
// variable is not set: without them what is served might be open to all.
func refuseEmpty(c *cli.Context, names ...string) error {
	for _, name := range names {
		if c.IsSet(name) && c.String(name) == "" {
			return usagef("--%s: says nothing", name)
		}
	}
	return nil
}

// A disk is an image as it is served, in itself or through an overlay.
type disk struct {
	nbd.Reader
	size  int64
	Close func() error // not the image
}

// over makes a disk of an image.
func (o overlayOptions) over(img *lazyImage) (disk, error) {
	base := nbdReader{img, img.reader()}
	if o.file == "" {
		return disk{base, img.size, func() error { return nil }}, nil
	}
	d, err := o.open(img, base)
	if err != nil {
		return disk{}, err
	}
	return disk{d, d.Size(), d.Close}, nil
}

// open opens the overlay over an image, or begins it. A disk that is written has
// whole sectors of 512 bytes, whoever serves it.
func (o overlayOptions) open(img *lazyImage, base nbd.Reader) (*overlay.Disk, error) {
	identity := img.identity()
	if len(identity) != 32 {
		return nil, fmt.Errorf("--overlay: the index of %s is not here to its end", img.name)
	}
	if o.size != 0 && o.size < img.size {
		return nil, usagef("--overlay-size=%d: less than the image's %d bytes", o.size, img.size)
	}
	opt := overlay.Options{Identity: [32]byte(identity), Size: wholeSectors(o.size)}
	// One that is there keeps its size.
	if _, err := os.Lstat(o.file); o.size == 0 && errors.Is(err, fs.ErrNotExist) {
		opt.Size = wholeSectors(img.size)
	}
	d, err := overlay.Open(o.file, base, img.size, opt)
	if err != nil {
		return nil, fmt.Errorf("--overlay: %w", err)
	}
	return d, nil
}

func wholeSectors(n int64) int64 { return (n + 511) &^ 511 }

// An nbdReader is an image as an export wants it.
type nbdReader struct {
	img *lazyImage
	reader
}

// Holes are the chunks of zeros.
func (r nbdReader) Holes(off, n int64) iter.Seq2[int64, int64] { return r.img.holes(off, n) }

// Backing is the image as a file, if it lies on disk as one.
func (r nbdReader) Backing() *os.File { return r.img.backing() }

// Local is what can be read without a network.
func (r nbdReader) Local(off, n int64) iter.Seq2[int64, int64] { return r.img.local(off, n) }

// Want fetches ahead what a client says that it will read.
func (r nbdReader) Want(off, n int64) { r.img.want(off, n) }
