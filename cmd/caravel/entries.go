package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"caravel/catar"
	"caravel/catar/tree"
)

// A found node is one that a stream has come to; it is valid until the next.
type found struct {
	path string // from the archive's root, "" for that
	*catar.Node
}

// nodes yields what d decodes. The first node is the one at base, the root or
// whatever the stream was cut out for; all others are below it.
func nodes(d *catar.Decoder, base string) iter.Seq2[found, error] {
	return func(yield func(found, error) bool) {
		var paths pathStack
		for {
			n, err := d.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(found{}, err)
				return
			}
			if !yield(found{paths.of(n, base), n}, nil) {
				return
			}
		}
	}
}

// below yields the node at path and what is below it, out of a whole archive.
func below(d *catar.Decoder, path string) iter.Seq2[found, error] {
	if path == "" {
		return nodes(d, "")
	}
	return func(yield func(found, error) bool) {
		inside := false
		for f, err := range nodes(d, "") {
			if err != nil {
				yield(f, err)
				return
			}
			was := inside
			inside = f.path == path || was && strings.HasPrefix(f.path, path+"/")
			if inside && !yield(f, nil) || was && !inside {
				return
			}
		}
		if !inside {
			yield(found{}, missingEntry(path))
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

// A position is a decoder and what it reads.
type position struct {
	*catar.Decoder
	io.Closer
	nodes iter.Seq2[found, error] // that are still to come
}

// entriesAt decodes the entry at path of an archive and what is below it: where
// that is possible nothing else is read.
func entriesAt(ctx context.Context, a archive, path string) (position, error) {
	if path != "" && !a.inOrder() {
		t, err := a.random(ctx)
		if err != nil {
			return position{}, err
		}
		return t.entriesAt(ctx, path)
	}
	r, err := a.stream(ctx)
	if err != nil {
		return position{}, err
	}
	d := catar.NewDecoder(r, catar.DecoderOptions{})
	return position{d, r, below(d, path)}, nil
}

func (a *randomArchive) entriesAt(ctx context.Context, path string) (position, error) {
	at, err := a.Find(ctx, path)
	if err != nil {
		return position{}, err
	}
	d, r, err := a.decode(ctx, at.ID)
	if err != nil {
		return position{}, err
	}
	return position{d, r, nodes(d, path)}, nil
}

// decode reads an entry, and what is below it, and no more.
func (a *randomArchive) decode(ctx context.Context, id tree.ID) (*catar.Decoder, io.Closer, error) {
	n, err := a.Entry(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	span := a.Span(id)
	r, err := a.section(ctx, span.Start, span.End-span.Start)
	if err != nil {
		return nil, nil, err
	}
	return catar.NewDecoder(r, catar.DecoderOptions{Node: n, Flags: a.Flags()}), r, nil
}
