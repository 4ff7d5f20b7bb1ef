package tarball

import (
	"context"
	"fmt"
	"io"
	"path"
	"sync/atomic"

	"caravel/catar"
	"caravel/feature"
)

// WriteOptions tunes Write. The zero value is a good choice.
type WriteOptions struct {
	Fill     bool          // write zeros where a hole would do, and look for none
	Progress *atomic.Int64 // counts bytes of the archive done; nil: nobody looks
}

// A Written is what Write has done.
type Written struct {
	Entries int64
	Lost    Lost // what a tar stream cannot say
}

// Write writes what d decodes as a tar stream in the pax format. The root is "./",
// what is in it has names without that. Nodes that tar cannot say are left out.
//
// Where the zeros of a file are has to be known before its first byte is written:
// one of more than 1 MiB is copied to a temporary file for that, unless opt.Fill.
func Write(ctx context.Context, w io.Writer, d *catar.Decoder, opt WriteOptions) (Written, error) {
	t := &writer{w: w, d: d, opt: opt}
	defer t.close()
	if t.opt.Progress == nil {
		t.opt.Progress = new(atomic.Int64)
	}
	for {
		if ctx.Err() != nil {
			return t.done, context.Cause(ctx)
		}
		n, err := d.Next()
		t.progress()
		if err == io.EOF {
			_, err = w.Write(make([]byte, 2*blockSize))
			return t.done, err
		}
		if err != nil {
			return t.done, err
		}
		if err := t.node(ctx, n); err != nil {
			return t.done, err
		}
	}
}

// A writer is one run of Write.
type writer struct {
	w    io.Writer
	d    *catar.Decoder
	opt  WriteOptions
	dirs []string // the names of the path to the directory that is open, without the root
	told int64    // of the archive's bytes, to Progress
	done Written

	zeros zeroFinder
}

func (t *writer) progress() {
	now := t.d.Offset()
	t.opt.Progress.Add(now - t.told)
	t.told = now
}

func (t *writer) close() { t.zeros.close() }

// node writes a node.
func (t *writer) node(ctx context.Context, n *catar.Node) error {
	name := t.name(n)
	if n.IsSocket() {
		t.done.Lost.Add(name, "a socket, of which tar knows nothing")
		return nil
	}
	t.done.Entries++
	h := t.header(n, name)
	if !n.IsRegular() || n.Size == 0 {
		return h.write(t.w)
	}
	content, holes, err := t.content(ctx, n.Size)
	if err != nil {
		return fmt.Errorf("entry %q: %w", name, err)
	}
	if len(holes) > 0 {
		return t.sparse(h, content.(io.ReaderAt), holes, n.Size)
	}
	if err := h.write(t.w); err != nil {
		return err
	}
	if _, err := io.Copy(t.w, content); err != nil {
		return err
	}
	return t.pad(n.Size)
}

// name is the path of a node in the stream.
func (t *writer) name(n *catar.Node) string {
	if n.Depth == 0 {
		return "./"
	}
	t.dirs = append(t.dirs[:n.Depth-1], n.Name)
	name := path.Join(t.dirs...)
	if n.IsDir() {
		name += "/"
	}
	return name
}

// header is that of a node.
func (t *writer) header(n *catar.Node, name string) *header {
	h := &header{name: name, entry: n.Entry, size: n.Size}
	if !n.IsRegular() {
		h.size = 0
	}
	if t.d.Flags()&feature.UserNames != 0 {
		// Archives do not say who 0 is.
		if n.UID == 0 && n.User == "" {
			h.entry.User = "root"
		}
		if n.GID == 0 && n.Group == "" {
			h.entry.Group = "root"
		}
	}
	for _, x := range n.XAttrs {
		h.add(schilyXAttr+encodeGNU.Replace(x.Name), string(x.Value))
	}
	if n.FCaps != nil {
		h.add(schilyXAttr+xattrFCaps, string(n.FCaps))
	}
	if n.SELinux != "" {
		h.add(gnuSELinux, n.SELinux) // which GNU tar reads with --selinux
		h.add(schilyXAttr+xattrSELinux, n.SELinux)
	}
	if r := accessOf(&n.Entry); r != nil {
		h.add(aclAccess, r.text())
	}
	if r := inheritedOf(&n.Entry); r != nil {
		h.add(aclDefault, r.text())
	}
	flags, left := flagText(n.Flags)
	if flags != "" {
		h.add(fileFlags, flags)
	}
	if left != 0 {
		t.done.Lost.Add(name, "%v", left)
	}
	if n.ProjID != 0 {
		t.done.Lost.Add(name, "%s %d", feature.QuotaProjID, n.ProjID)
	}
	return h
}

// pad fills up the block in which a file of size bytes ends.
func (t *writer) pad(size int64) error {
	_, err := t.w.Write(make([]byte, -size&(blockSize-1)))
	return err
}
