package diskcache

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"caravel/store"
)

// A small file begins with a magic word and the digest of its name and of what
// follows.
const (
	fileMagic = "ccfile\x00\x01"
	fileHead  = len(fileMagic) + sha512.Size256
)

func fileSum(n name, content []byte) []byte {
	h := sha512.New512_256()
	h.Write([]byte(n.rel()))
	h.Write([]byte{0})
	h.Write(content)
	return h.Sum(nil)
}

// ReadFile reads what WriteFile kept under a name (two components at most, like
// "index/<hex>"), if it is no longer than limit, whole and unchanged: it is kept
// with its digest. It matches store.ErrMissing otherwise. It counts as a use.
func (c *Cache) ReadFile(path string, limit int64) ([]byte, error) {
	n, err := parseName(fileRoom, path)
	if err != nil {
		return nil, err
	}
	p := c.enter()
	defer c.leave(p)
	var b []byte
	used, err := p.read(n, int64(fileHead)+limit, func(size int) []byte {
		b = make([]byte, size)
		return b
	})
	switch {
	case missing(err) || errors.Is(err, errTooLong):
		return nil, fmt.Errorf("diskcache: %s: %w", c.locate(n), store.ErrMissing)
	case err != nil:
		return nil, failed(c.locate(n), err)
	case len(b) < fileHead || string(b[:len(fileMagic)]) != fileMagic ||
		!bytes.Equal(b[len(fileMagic):fileHead], fileSum(n, b[fileHead:])):
		c.log.Debug("damaged file in disk cache", "path", c.locate(n))
		return nil, fmt.Errorf("diskcache: %s: damaged, %w", c.locate(n), store.ErrMissing)
	}
	if stale(used) {
		p.use(n)
	}
	return b[fileHead:], nil
}

// WriteFile keeps a small file, in place of what there was: whole or not at all.
func (c *Cache) WriteFile(path string, content []byte) error {
	n, err := parseName(fileRoom, path)
	if err != nil {
		return err
	}
	b := append(make([]byte, 0, fileHead+len(content)), fileMagic...)
	b = append(append(b, fileSum(n, content)...), content...)
	err = c.change(func(p *place) error {
		if !c.chargeSoon(p, onDisk(len(b))) {
			return errFull
		}
		grown, err := p.write(n, b)
		c.ledger.refund(onDisk(len(b)) - grown)
		return err
	})
	works := errors.Is(err, errFull) || blocked(err) // the disk
	if err != nil {
		err = failed(c.locate(n), err)
	}
	if !works {
		c.wrote(err)
	}
	return err
}

var errFull = errors.New("far more than the budget is in use")

// Remove forgets what was kept under a name; it is no error if nothing was.
func (c *Cache) Remove(path string) error {
	n, err := parseName(fileRoom, path)
	if err != nil {
		return err
	}
	p := c.enter()
	defer c.leave(p)
	freed, err := p.remove(n)
	switch {
	case missing(err):
		return nil
	case err != nil:
		return failed(c.locate(n), err)
	}
	if c.ledger.refund(freed) {
		c.settle(p, c.ledger.step)
	}
	return nil
}

// Image is the path at which a materialised file may lie: the name as for
// WriteFile. It is called before the file is opened, and Used after that, now and
// then and at the end; the file counts for what it takes on disk, together with what lies beside it under the same name and one
// suffix more, and both may be evicted (removed) at any time, which those who
// have them open do not notice. The folder is made, if that is possible.
func (c *Cache) Image(path string) string {
	n, err := parseName(imageRoom, path)
	if err != nil {
		return "" // where nothing can be opened
	}
	err = c.change(func(p *place) error {
		dir, err := p.folder(n, true)
		if err == nil {
			p.done(n, dir)
			c.measure(p, n)
		}
		return err
	})
	if err != nil {
		c.log.Debug("no folder for a file in disk cache", "path", c.locate(n), "err", err)
	}
	return c.locate(n)
}

// Used says that a materialised file is in use, and looks how much of the disk
// it takes by now.
func (c *Cache) Used(path string) {
	n, err := parseName(imageRoom, path)
	if err != nil {
		return
	}
	p := c.enter()
	defer c.leave(p)
	p.use(n)
	c.measure(p, n)
}

// measure looks how much of the disk an image takes by now, and takes leave for
// what it has grown by. What it has shrunk by others may have given back.
func (c *Cache) measure(p *place, n name) {
	_, blocks, err := p.stat(n)
	if err != nil && !missing(err) {
		return
	}
	c.mu.Lock()
	was, known := c.images[n]
	c.images[n] = blocks
	c.mu.Unlock()
	if known && blocks > was {
		c.ledger.refund(was - blocks)
		c.settle(p, c.ledger.step)
	}
}

// measureAll is measure of all images: whoever fills one may take long.
func (c *Cache) measureAll() {
	c.mu.Lock()
	names := slices.Collect(maps.Keys(c.images))
	c.mu.Unlock()
	p := c.enter()
	defer c.leave(p)
	for _, n := range names {
		c.measure(p, n)
	}
}

// forget is called when an image is removed.
func (c *Cache) forget(n name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.images, n)
}

// parseName refuses what could lead elsewhere, or is no name of ours.
func parseName(room int, path string) (name, error) {
	folder, file, two := strings.Cut(path, "/")
	if !two {
		folder, file = "", path
	}
	if !plain(file) || two && !plain(folder) {
		return name{}, fmt.Errorf("diskcache: name %q: want one or two words of letters, digits, dots and dashes", path)
	}
	return name{room, folder, file}, nil
}

// plain reports whether s may be the name of a file or folder of ours.
func plain(s string) bool {
	if s == "" || len(s) > 200 || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	})
}
