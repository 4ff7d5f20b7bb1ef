package archive

import (
	"context"
	"hash"
	"io"

	"caravel/catar"
	"caravel/chunker"
)

// Digests are the digests of an entry that is no directory, as those of
// [Entries.Digests] are. It reads what the entry has behind its name: its
// records, and if it is a file its bytes.
func (r *Random) Digests(ctx context.Context, n *catar.Node, at catar.Span) (payload, link chunker.ID, err error) {
	src, err := r.Section(ctx, at.Start, at.End-at.Start)
	if err != nil {
		return payload, link, err
	}
	defer src.Close()
	all, content := r.Flags().Digest().New(), r.Flags().Digest().New()
	_, err = io.CopyN(all, src, n.Body-at.Start)
	if err == nil && n.IsRegular() {
		_, err = io.CopyN(io.MultiWriter(all, content), src, n.Size)
	}
	return chunker.ID(content.Sum(nil)), chunker.ID(all.Sum(nil)), err
}

// What a stream has brought is gone. To digest an entry of a folder with its
// records, they are made once more, which gives the same bytes.

// Digests are the digests of the entry that at has come to, no directory: that
// of its payload, and that of its records without the name and its payload.
func (at *Entries) Digests(n *catar.Node) (payload, link chunker.ID, err error) {
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
