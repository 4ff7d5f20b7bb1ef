package archive

import (
	"io"

	"caravel/catar"
	"caravel/feature"
)

// A Subtree is a directory of an archive and what is below it, written as an
// archive of its own.
type Subtree struct {
	to   *catar.Encoder
	top  int // depth of the directory
	open int // directories that have not ended
}

// NewSubtree begins an archive with flags, which is written to w.
func NewSubtree(w io.Writer, flags feature.Flags) (*Subtree, error) {
	e, err := catar.NewEncoder(w, flags)
	if err != nil {
		return nil, err
	}
	return &Subtree{to: e}, nil
}

// Add writes the entry that at has come to: the directory first, then what is
// below it in order.
func (s *Subtree) Add(at *Entries, n *catar.Node) error {
	name := n.Name
	if s.open == 0 {
		name, s.top = "", n.Depth
	}
	if err := s.closeTo(n.Depth - s.top); err != nil {
		return err
	}
	if err := s.to.Begin(name, &n.Entry); err != nil {
		return err
	}
	if n.IsDir() {
		s.open++
	}
	if !n.IsRegular() {
		return nil
	}
	_, err := at.WriteTo(s.to)
	return err
}

// Close ends the archive. It does not close what it was written to.
func (s *Subtree) Close() error { return s.closeTo(0) }

// closeTo ends directories until n are open.
func (s *Subtree) closeTo(n int) error {
	for ; s.open > n; s.open-- {
		if err := s.to.End(); err != nil {
			return err
		}
	}
	return nil
}
