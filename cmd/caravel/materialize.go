package main

import (
	"encoding/hex"
	"errors"
	"os"

	"caravel/blockcache"
	"caravel/index"
	"caravel/store/diskcache"
)

// What --materialize may be told beside a file.
const (
	materializeYes = "yes"
	materializeNo  = "no"
)

// materialises reports whether images, or the large files of a tree, become
// files on disk.
func (o lazyOptions) materialises() bool {
	return o.materialize != "" && o.materialize != materializeNo
}

// toFile reports whether they become a file that the user named.
func (o lazyOptions) toFile() bool { return o.materialises() && o.materialize != materializeYes }

var errNoPlace = errors.New("--materialize=yes: there is no --cache-dir to put it in")

// materialise opens the file that a disk image is assembled in, if its index is
// here whole.
func (c *cachedImage) materialise() error {
	x := c.whole()
	if !c.from.lazy.materialises() || x == nil {
		return nil
	}
	opt := blockcache.FileOptions{Index: x.Sum(), Size: x.Size(), Log: c.from.log}
	path := c.from.lazy.materialize
	if !c.from.lazy.toFile() {
		disk, err := c.from.placeOnDisk(c.src)
		if err != nil {
			return err
		}
		name := hex.EncodeToString(opt.Index[:])
		path = disk.Image(name)
		c.used = func() { disk.Used(name) }
	}
	openFile := openCached
	if c.from.lazy.toFile() {
		openFile = blockcache.OpenFile
	}
	file, err := openFile(path, x, opt)
	if err != nil {
		return err
	}
	c.src.file.Store(file)
	c.Attach(file)
	c.used()
	return nil
}

// openCached opens a file in the cache on disk. One that cannot be used is ours to
// put another in its place.
func openCached(path string, x *index.Index, opt blockcache.FileOptions) (*blockcache.File, error) {
	file, err := blockcache.OpenFile(path, x, opt)
	if err == nil {
		return file, nil
	}
	if opt.Log != nil {
		opt.Log.Info("materialised file is begun anew", "err", err)
	}
	if err := errors.Join(os.RemoveAll(path), os.RemoveAll(path+blockcache.MapSuffix)); err != nil {
		return nil, err
	}
	return blockcache.OpenFile(path, x, opt)
}

// materialised reports whether the image is kept in a file of its own, so that
// its chunks need not be kept beside it.
func (i *openedImage) materialised() bool {
	file := i.file.Load()
	return file != nil && !file.Lost()
}

// placeOnDisk is the cache on disk for one who cannot do without. What lies in a
// materialised file is not encrypted, and what was is put nowhere that the user has
// not named.
func (o *opener) placeOnDisk(src *openedImage) (*diskcache.Cache, error) {
	if src.key != nil {
		return nil, usagef("--materialize=yes: %s is encrypted in its store and would not be in --cache-dir; a disk image can be materialised in a file that you name", src.where)
	}
	disk, err := o.openDisk()
	if err == nil && disk == nil {
		err = errNoPlace
	}
	return disk, err
}
