// Package layers puts a tree together that lies in tar streams: one, or the layers
// of a container's image, each of which changes what the former ones left. Then it
// gives the archive of that tree, byte for byte what packing it from a disk would
// give.
//
//	t, err := layers.New(layers.Options{})
//	defer t.Close()
//	err = t.Add(ctx, tarball.NewReader(file, tarball.ReaderOptions{}))
//	…
//	s, err := t.Stream(ctx, flags) // after what t.Lost lists was thought about
//	defer s.Close()
//	_, err = io.Copy(w, s)
//
// # What a stream means
//
// What unpacking it with GNU tar would leave. Members may come in any order: a
// directory after what is in it, a hard link before what it is one of. A name that
// comes again takes the place of the former node, and a directory is what is said of
// it last, with all its children. A directory of which nothing is said has the mode
// 0755, the owner 0:0 and the time 0, so that two runs give the same tree. A member
// below a symbolic link lies where that leads, as long as it is in the tree.
// Hard links are nodes with the same content: archives know no others.
//
// A "/" at the beginning of a name is taken away (GNU tar does so, and warns; see
// [Options.Log]). A name with ".." in it is not taken, as is no other one that leads
// out of the tree: such members, and what archives cannot keep of others, are in
// [Tree.Lost].
//
// # Layers
//
// With [Options.Layered] these are the rules of the OCI's image specification: a
// member ".wh.NAME" removes what former layers have of that name, ".wh..wh..opq"
// what they have in the directory; a node of another type takes the place of a whole
// directory; links lead within the tree, as in a container, whose root it is.
//
// # Memory
//
// The bytes of files are read in their place if the stream is a file that is not
// packed (it must not change meanwhile), and else copied to a temporary file. The
// nodes themselves are kept: 150 to 200 bytes each with a name of usual length, 350
// more for a directory with something in it, 200 and the bytes themselves for a node
// with a target, a named owner, extended attributes or lists. Directories that are only
// implied by names count like others, as do names and links whose target has not come
// yet. All of that is bounded: see [Options.Memory].
package layers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"

	"caravel/catar"
	"caravel/tarball"
)

// Options tunes a Tree. The zero value is for one stream.
type Options struct {
	Layered  bool          // streams are the layers of an image
	Progress *atomic.Int64 // counts bytes of files taken; nil: nobody looks
	Log      *slog.Logger  // nil: discard
	Memory   int64         // bytes that nodes may take of it; 0: 4 GiB
}

// A Tree is what the streams that were added leave. It is used by one goroutine.
type Tree struct {
	Lost tarball.Lost // what an archive of it cannot keep

	opt     Options
	root    *node
	layer   int32 // that is being added, or was last; 0: none
	spool   *tarball.Spool
	pending map[place]pendingLink
	links   int   // that were pending so far
	memory  int64 // bytes
	said    bool  // that names were changed
}

// A place is where a name is, whatever way leads there.
type place struct {
	dir  *node
	base string
}

// A pendingLink is a hard link whose target was not there when it came.
type pendingLink struct {
	order        int
	name, target string // paths without "." in them
}

// New returns a tree without anything in it. Who is done with it closes it.
func New(opt Options) (*Tree, error) {
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.Memory = cmp.Or(opt.Memory, maxMemory)
	spool, err := tarball.NewSpool()
	if err != nil {
		return nil, err
	}
	t := &Tree{opt: opt, spool: spool}
	if t.root, err = t.newDir(); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	return t, nil
}

// Add puts what a stream has on what is there. What r reads from stays open, and
// as it is, as long as the tree is used. After an error the tree is of no use.
func (t *Tree) Add(ctx context.Context, r *tarball.Reader) error {
	t.layer++
	t.pending = map[place]pendingLink{}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := t.member(ctx, m, r); err != nil {
			return err
		}
	}
	if err := t.linkPending(); err != nil {
		return err
	}
	if r.Cut() && !t.opt.Layered { // of a layer the digest tells whether all is there
		t.Lost.Add("", "the stream has no end mark, so perhaps it was cut off")
	}
	more, err := r.Rest()
	if more {
		t.Lost.Add("", "there are bytes behind the end mark, perhaps of a second stream")
	}
	return err
}

// Close gives back what the tree has. Streams of it are closed first.
func (t *Tree) Close() error { return t.spool.Close() }

// Why a member is not taken.
var (
	errDots     = errors.New("has .. in its name, and is not taken")
	errLeads    = errors.New("lies behind a symbolic link that leads out of the tree")
	errLinks    = errors.New("lies behind too many symbolic links")
	errNotDir   = errors.New("lies in what is no directory")
	errNotEmpty = errors.New("cannot take the place of a directory with something in it")
	errRoot     = errors.New("cannot take the place of the root")
	errDeep     = fmt.Errorf("lies more than %d levels deep", catar.MaxDepth)
	errNowhere  = errors.New("is a hard link to what is not in the tree")
	errLinkDir  = errors.New("is a hard link to a directory")
	errCircle   = errors.New("is a hard link that leads to itself")
)

// member takes a member.
func (t *Tree) member(ctx context.Context, m *tarball.Member, r *tarball.Reader) error {
	for _, what := range m.Lost {
		t.Lost.Add(m.Name, "%s", what)
	}
	if m.Refused != "" {
		t.Lost.Add(m.Name, "%s", m.Refused)
		return nil
	}
	names, err := t.split(m.Name)
	if err == nil {
		err = t.settle(ctx, names, m, r)
	}
	var no *refusal
	if errors.As(err, &no) {
		t.Lost.Add(m.Name, "%v", no.why)
		return nil
	}
	return err
}

// A refusal ends the taking of a member and not that of the stream.
type refusal struct{ why error }

func (r *refusal) Error() string { return r.why.Error() }
func (r *refusal) Unwrap() error { return r.why }

func refuse(why error) error { return &refusal{why} }

// split takes a name apart; none are the root.
func (t *Tree) split(name string) ([]string, error) {
	if strings.HasPrefix(name, "/") && !t.said {
		t.said = true
		t.opt.Log.Warn(`the "/" at the beginning of names is taken away`, "first", name)
	}
	var names []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return nil, refuse(errDots)
		case len(names) == catar.MaxDepth-1:
			return nil, refuse(errDeep)
		}
		if err := catar.CheckName(part); err != nil {
			return nil, refuse(err)
		}
		names = append(names, part)
	}
	return names, nil
}

// settle puts a member into the tree.
func (t *Tree) settle(ctx context.Context, names []string, m *tarball.Member, r *tarball.Reader) error {
	if len(names) == 0 {
		if !m.IsDir() {
			return refuse(errRoot)
		}
		return t.describe(t.root, m)
	}
	base := names[len(names)-1]
	removes := t.opt.Layered && strings.HasPrefix(base, whiteout)
	dir, err := t.walk(names[:len(names)-1], true)
	switch {
	case removes && errors.Is(err, errNotDir):
		return nil // it has gone with the directory that it was in
	case err != nil:
		return err
	case removes:
		return t.whiteOut(dir, base)
	}
	at := place{dir, base}
	delete(t.pending, at)
	if m.Hard != "" {
		return t.hardLink(at, names, m)
	}
	if old := dir.children[base].node; old.isDir() && m.IsDir() {
		return errors.Join(t.name(dir, base, old), t.describe(old, m))
	}
	n, err := t.newNode(ctx, m, r)
	if err != nil {
		return err
	}
	return t.put(dir, base, n)
}

// put gives a node a name.
func (t *Tree) put(dir *node, base string, n *node) error {
	if old := dir.children[base].node; old.isDir() && len(old.children) > 0 && !t.opt.Layered {
		return refuse(errNotEmpty)
	}
	return t.name(dir, base, n)
}
