package main

import (
	"hash"
	"io"

	"caravel/catar"
	"caravel/chunker"
)

// What a stream has brought is gone. To digest an entry of a folder with its
// records, they are made once more, which gives the same bytes.

// digests are the digests of the node that at has come to, no directory: that
// of its payload, and that of its records without the name and its payload.
func (at position) digests(n *catar.Node) (payload, link chunker.ID, err error) {
	content := at.Flags().Digest().New()
	cut := &cutout{to: at.Flags().Digest().New()}
	e, err := catar.NewEncoder(cut, at.Flags())
	if err == nil {
		err = e.Begin("", &catar.Entry{Mode: 0o40755}) // what it lies in
	}
	if err != nil {
		return payload, link, err
	}
	cut.from, cut.end = e.Offset()+n.Head-n.Start, -1
	if err = e.Begin(n.Name, &n.Entry); err == nil && n.IsRegular() {
		_, err = at.WriteTo(io.MultiWriter(e, content))
	}
	if err == nil {
		cut.end = e.Offset()
		err = e.End()
	}
	return chunker.ID(content.Sum(nil)), chunker.ID(cut.to.Sum(nil)), err
}

// A cutout takes what is written from one offset to another.
type cutout struct {
	to        hash.Hash
	off       int64
	from, end int64 // end < 0: not known yet, nothing behind it comes before that
}

func (c *cutout) Write(p []byte) (int, error) {
	start, end := c.off, c.off+int64(len(p))
	c.off = end
	if c.end >= 0 {
		end = min(end, c.end)
	}
	if from := max(start, c.from); from < end {
		c.to.Write(p[from-start : end-start])
	}
	return len(p), nil
}

// A subtree is a directory of an archive and what is below it, written as an
// archive of its own.
type subtree struct {
	*catar.Encoder
	top  int // depth of the directory
	open int // directories that have not ended
}

// add writes the node that at has come to: the directory first, then what is
// below it in order.
func (s *subtree) add(at position, n *catar.Node) error {
	name := n.Name
	if s.open == 0 {
		name, s.top = "", n.Depth
	}
	if err := s.closeTo(n.Depth - s.top); err != nil {
		return err
	}
	if err := s.Begin(name, &n.Entry); err != nil {
		return err
	}
	if n.IsDir() {
		s.open++
	}
	if !n.IsRegular() {
		return nil
	}
	_, err := at.WriteTo(s)
	return err
}

// closeTo ends directories until n are open.
func (s *subtree) closeTo(n int) error {
	for ; s.open > n; s.open-- {
		if err := s.End(); err != nil {
			return err
		}
	}
	return nil
}
