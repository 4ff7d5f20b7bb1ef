package archive

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"caravel/catar"
)

// A Found entry is one that a stream has come to; it is valid until the next.
type Found struct {
	Path string // from the archive's root, "" for that
	*catar.Node
}

// Entries are an entry of an archive and what is below it, on their way through
// a decoder, which has the payload of the one that came last.
type Entries struct {
	*catar.Decoder
	io.Closer                         // of what is read from
	All       iter.Seq2[Found, error] // those still to come
}

// EntriesAt decodes the entry at path of an archive and what is below it: where
// that is possible nothing else is read.
func EntriesAt(ctx context.Context, a Archive, path string) (*Entries, error) {
	if path != "" && !a.InOrder() {
		t, err := a.Random(ctx)
		if err != nil {
			return nil, err
		}
		return t.entriesAt(ctx, path)
	}
	r, err := a.Stream(ctx)
	if err != nil {
		return nil, err
	}
	d := catar.NewDecoder(r, catar.DecoderOptions{})
	return &Entries{d, r, below(d, path)}, nil
}

func (a *Random) entriesAt(ctx context.Context, path string) (*Entries, error) {
	at, err := a.Find(ctx, path)
	if err != nil {
		return nil, err
	}
	d, r, err := a.Decode(ctx, at.ID)
	if err != nil {
		return nil, err
	}
	return &Entries{d, r, nodes(d, path)}, nil
}

// nodes yields what d decodes. The first node is the one at base, the root or
// whatever the stream was cut out for; all others are below it.
func nodes(d *catar.Decoder, base string) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		var paths pathStack
		for {
			n, err := d.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Found{}, err)
				return
			}
			if !yield(Found{paths.of(n, base), n}, nil) {
				return
			}
		}
	}
}

// below yields the node at path and what is below it, out of a whole archive.
func below(d *catar.Decoder, path string) iter.Seq2[Found, error] {
	if path == "" {
		return nodes(d, "")
	}
	return func(yield func(Found, error) bool) {
		inside := false
		for f, err := range nodes(d, "") {
			if err != nil {
				yield(f, err)
				return
			}
			was := inside
			inside = f.Path == path || was && strings.HasPrefix(f.Path, path+"/")
			if inside && !yield(f, nil) || was && !inside {
				return
			}
		}
		if !inside {
			yield(Found{}, missingEntry(path))
		}
	}
}

func missingEntry(path string) error {
	return fmt.Errorf("entry %q: %w", path, fs.ErrNotExist)
}

// A pathStack puts the paths of nodes together, which know their names only.
type pathStack struct {
	path []byte
	ends []int // where in path the node of each depth ends
	top  int   // depth of the first node
}

func (p *pathStack) of(n *catar.Node, base string) string {
	if p.ends == nil {
		p.path, p.ends, p.top = []byte(base), []int{len(base)}, n.Depth
		return base
	}
	level := n.Depth - p.top
	p.ends = p.ends[:level]
	p.path = p.path[:p.ends[level-1]]
	if len(p.path) > 0 {
		p.path = append(p.path, '/')
	}
	p.path = append(p.path, n.Name...)
	p.ends = append(p.ends, len(p.path))
	return string(p.path)
}
