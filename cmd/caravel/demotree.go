package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// tree shows with a directory what the other steps show with a disk.
func (d *demonstration) tree() error {
	d.title("A directory, as a tree of files:")
	if runtime.GOOS != "linux" {
		d.say("    Not on this machine: directories are packed on Linux.")
		return nil
	}
	if err := os.Mkdir(d.path("www", "tree"), 0o777); err != nil {
		return err
	}
	if err := d.caravel("make", "www/tree/tree.caidx", "files"); err != nil {
		return err
	}
	chunks, size, err := weigh(d.path("www", "tree"))
	if err != nil {
		return err
	}
	d.packed = size
	d.say("    %d chunks, %s: what a download of the tree costs.", chunks, megabytes(size))
	names, err := regularFiles(d.path("files"))
	if err != nil {
		return err
	}
	one := names[len(names)/2]
	for _, step := range []func() error{
		func() error { return d.browse(names, one) },
		func() error { return d.extractOne(one) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// browse mounts the tree, lists it and reads one file.
func (d *demonstration) browse(names []string, one string) error {
	if err := os.Mkdir(d.path("tree"), 0o777); err != nil {
		return err
	}
	d.origin.Reset()
	began := time.Now()
	p, line, err := d.start("mount", "--no-sweep", d.origin.URL()+"/tree/tree.caidx", "tree")
	if err != nil {
		d.say("    Not on this machine: %v", err)
		return nil
	}
	d.say("    %s    (%.2f s)", line, time.Since(began).Seconds())
	return errors.Join(d.look(names, one), p.stop())
}

func (d *demonstration) look(names []string, one string) error {
	began := time.Now()
	if err := sameContent(d.path("files", one), d.path("tree", one)); err != nil {
		return err
	}
	d.say("    one file, %s: right (%.2f s)", one, time.Since(began).Seconds())
	d.travelled()
	d.origin.Reset()
	began = time.Now()
	shown, err := regularFiles(d.path("tree"))
	if err != nil {
		return err
	}
	if len(shown) != len(names) {
		return fmt.Errorf("the mount shows %d files of %d", len(shown), len(names))
	}
	d.say("    all names, %d files: right (%.2f s)", len(shown), time.Since(began).Seconds())
	d.travelled()
	return nil
}

// extractOne fetches one file out of the tree.
func (d *demonstration) extractOne(one string) error {
	d.origin.Reset()
	began := time.Now()
	if err := d.caravel("extract", d.origin.URL()+"/tree/tree.caidx", "one", one); err != nil {
		return err
	}
	if err := sameContent(d.path("files", one), d.path("one", filepath.Base(one))); err != nil {
		return err
	}
	d.say("    one/%s is what files/%s is (%.2f s)", filepath.Base(one), one, time.Since(began).Seconds())
	d.travelled()
	return nil
}

func sameContent(a, b string) error {
	same, err := sameFile(a, b)
	if err == nil && !same {
		err = fmt.Errorf("%s is not what %s is", b, a)
	}
	return err
}

// regularFiles lists the files below dir by their paths there.
func regularFiles(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, strings.TrimPrefix(path, dir+string(filepath.Separator)))
		}
		return err
	})
	return names, err
}

// weigh counts the chunks of an image that is alone in a folder, and the bytes
// that it takes.
func weigh(dir string) (chunks int, size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		if filepath.Dir(path) != dir {
			chunks++
		}
		size += st.Size()
		return nil
	})
	return chunks, size, err
}
