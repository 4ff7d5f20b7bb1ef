package archive

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/image"
	"caravel/index"
)

// A Difference is an entry that is not the same in two trees.
type Difference struct {
	Path string
	Old  *tree.Attr // nil: it is new
	New  *tree.Attr // nil: it is gone
	What []string   // of one that is in both: in which ways it differs, see Diff
}

// DiffOptions tune Diff. The zero value fetches little.
type DiffOptions struct {
	Contents bool // files of which chunks do not tell are fetched, and so is all of the metadata
}

// Diff compares two trees behind indexes by their metadata, and the contents of files by
// their chunks, without fetching them, in the order of the paths. What differs of an
// entry is one or more of type, mode, owner, group, mtime, size, content, target, device,
// and xattrs, which are all that a file system shows as extended attributes; with
// Contents also attributes, which are the rest.
//
// Where two files have the same size and share chunks with others that changed, nobody can
// tell without reading them: if the times differ as well,
// that is "content?"; if they do not, the files are taken for the same. With Contents
// both are read.
func Diff(ctx context.Context, a, b *Indexed, opt DiffOptions) ([]Difference, error) {
	d := &diffing{opt: opt, x: a.index, y: b.index}
	var err error
	if d.a, err = a.Random(ctx); err != nil {
		return nil, err
	}
	if d.b, err = b.Random(ctx); err != nil {
		return nil, err
	}
	old := map[string]tree.Attr{}
	for step, err := range d.a.Walk(ctx, tree.Root, -1) {
		if err != nil {
			return nil, err
		}
		old[step.Path] = step.Attr
	}
	var all []Difference
	for step, err := range d.b.Walk(ctx, tree.Root, -1) {
		if err != nil {
			return nil, err
		}
		was, there := old[step.Path]
		if !there {
			all = append(all, Difference{Path: step.Path, New: &step.Attr})
			continue
		}
		delete(old, step.Path)
		what, err := d.compare(ctx, was, step.Attr)
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", step.Path, err)
		}
		if len(what) > 0 {
			all = append(all, Difference{step.Path, &was, &step.Attr, what})
		}
	}
	for path, was := range old {
		all = append(all, Difference{Path: path, Old: &was})
	}
	slices.SortFunc(all, func(a, b Difference) int { return comparePaths(a.Path, b.Path) })
	return all, nil
}

// comparePaths has what is in a directory stand behind it at once.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// diffing is one Diff.
type diffing struct {
	opt  DiffOptions
	a, b *Random
	x, y *index.Index // theirs
}

// compare says in which ways an entry differs.
func (d *diffing) compare(ctx context.Context, a, b tree.Attr) (what []string, err error) {
	add := func(differs bool, name string) {
		if differs {
			what = append(what, name)
		}
	}
	if a.Mode&catar.ModeType != b.Mode&catar.ModeType {
		return []string{"type"}, nil
	}
	userA, groupA := d.a.Owners(a.ID)
	userB, groupB := d.b.Owners(b.ID)
	add(a.Mode != b.Mode, "mode")
	add(a.UID != b.UID || userA != userB, "owner")
	add(a.GID != b.GID || groupA != groupB, "group")
	add(a.MTime != b.MTime, "mtime")
	add(a.Major != b.Major || a.Minor != b.Minor, "device")
	switch a.Mode & catar.ModeType {
	case catar.ModeRegular:
		add(a.Size != b.Size, "size")
		content, err := d.content(ctx, a, b)
		if err != nil {
			return nil, err
		}
		add(content != "", content)
	case catar.ModeLink:
		was, errA := d.a.Target(ctx, a.ID)
		is, errB := d.b.Target(ctx, b.ID)
		if err := cmp.Or(errA, errB); err != nil {
			return nil, err
		}
		add(was != is, "target")
	}
	more, err := d.more(ctx, a, b)
	return append(what, more...), err
}

// content says whether the bytes of two files differ: "", content, or content?.
func (d *diffing) content(ctx context.Context, a, b tree.Attr) (string, error) {
	offA, n := d.a.Payload(a.ID)
	offB, m := d.b.Payload(b.ID)
	switch {
	case n != m:
		return "content", nil
	case image.SameRange(d.x, offA, d.y, offB, n):
		return "", nil
	case image.OtherRange(d.x, offA, d.y, offB, n):
		return "content", nil
	case d.opt.Contents:
		same, err := d.sameBytes(ctx, offA, offB, n)
		if err != nil || same {
			return "", err
		}
		return "content", nil
	case a.MTime == b.MTime:
		return "", nil
	}
	return "content?", nil
}

// sameBytes compares n bytes of the archives.
func (d *diffing) sameBytes(ctx context.Context, offA, offB, n int64) (bool, error) {
	a, err := d.a.Section(ctx, offA, n)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := d.b.Section(ctx, offB, n)
	if err != nil {
		return false, err
	}
	defer b.Close()
	var bufs [2][32 << 10]byte
	for n > 0 {
		step := min(n, int64(len(bufs[0])))
		was, is := bufs[0][:step], bufs[1][:step]
		_, errA := io.ReadFull(a, was)
		_, errB := io.ReadFull(b, is)
		if err := cmp.Or(errA, errB); err != nil || !bytes.Equal(was, is) {
			return false, err
		}
		n -= step
	}
	return true, nil
}

// more compares what is not in an entry's Attr, for which the entries are read, unless
// they lie in the same chunks.
func (d *diffing) more(ctx context.Context, a, b tree.Attr) (what []string, err error) {
	needed := a.XAttrs || b.XAttrs || d.opt.Contents && !(a.Plain && b.Plain)
	headA, headB := headOf(d.a, a.ID), headOf(d.b, b.ID)
	if !needed || headA.End-headA.Start == headB.End-headB.Start && image.SameRange(d.x, headA.Start, d.y, headB.Start, headA.End-headA.Start) {
		return nil, nil
	}
	was, errA := d.a.Stat(ctx, a.ID)
	is, errB := d.b.Stat(ctx, b.ID)
	if err := cmp.Or(errA, errB); err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(extended(was), extended(is)) {
		what = append(what, "xattrs")
	}
	if was.Flags != is.Flags || was.ProjID != is.ProjID {
		what = append(what, "attributes")
	}
	return what, nil
}

// headOf is where an entry's metadata lies; of a directory, the end of whose is not
// known without reading it, all of it.
func headOf(r *Random, id tree.ID) catar.Span {
	s := r.Span(id)
	if off, n := r.Payload(id); n > 0 {
		s.End = off
	}
	return s
}

// extended is what a file system shows as extended attributes.
func extended(n *catar.Node) catar.Entry {
	e := catar.Entry{ACL: n.ACL, SELinux: n.SELinux}
	if len(n.FCaps) > 0 {
		e.FCaps = n.FCaps
	}
	if len(n.XAttrs) > 0 {
		e.XAttrs = n.XAttrs
	}
	return e
}
