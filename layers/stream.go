package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"

	"caravel/catar"
	"caravel/catar/exclude"
	"caravel/feature"
)

// A Stream is the archive of a tree. One goroutine reads it.
type Stream struct {
	r       *io.PipeReader
	done    chan struct{}
	entries int64
}

// Stream begins the archive of the tree with the normal flags f: what packing it
// from a disk would give. So what f has no feature for is left out, and what a
// .caexclude or chattr's +d says where f has that. Nothing is added to the tree any
// more.
func (t *Tree) Stream(ctx context.Context, f feature.Flags) (*Stream, error) {
	if err := t.spool.Seal(); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	enc, err := catar.NewEncoder(w, f)
	if err != nil {
		return nil, err
	}
	s := &Stream{r: r, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		p := &packer{ctx: ctx, enc: enc, flags: f}
		err := p.dir(t.root, "", "", exclude.Rules{})
		s.entries = p.entries
		w.CloseWithError(err)
	}()
	return s, nil
}

// Read is io.Reader's.
func (s *Stream) Read(p []byte) (int, error) { return s.r.Read(p) }

// Close ends the stream and returns when nothing of it runs any more.
func (s *Stream) Close() error {
	s.r.CloseWithError(io.ErrClosedPipe)
	<-s.done
	return nil
}

// Entries is how many nodes are in the archive, when it has been read or closed.
func (s *Stream) Entries() int64 {
	<-s.done
	return s.entries
}

// A packer writes the archive.
type packer struct {
	ctx     context.Context
	enc     *catar.Encoder
	flags   feature.Flags
	entries int64
}

// dir writes the directory n, which is name in the archive, and what is in it.
func (p *packer) dir(n *node, where, name string, rules exclude.Rules) error {
	own, err := p.rules(n)
	if err != nil {
		return fmt.Errorf("%q: %w", path.Join(where, exclude.Name), err)
	}
	rules = rules.With(own)
	if err := p.begin(n, name); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		if !p.kept(c.node) || rules.Excludes(name, c.isDir()) {
			continue
		}
		if c.isDir() {
			err = p.dir(c.node, path.Join(where, name), name, rules.Below(name))
		} else {
			err = p.leaf(c.node, path.Join(where, name), name)
		}
		if err != nil {
			return err
		}
	}
	return p.enc.End()
}

// rules are those of a directory's own .caexclude.
func (p *packer) rules(n *node) (exclude.Rules, error) {
	c := n.children[exclude.Name]
	switch {
	case c.node == nil || p.flags&feature.ExcludeFile == 0:
		return exclude.Rules{}, nil
	case c.mode&catar.ModeType != catar.ModeRegular:
		return exclude.Rules{}, errors.New("the rules must be in a regular file")
	case c.size == 0:
		return exclude.Rules{}, nil
	case c.size > maxRules:
		return exclude.Rules{}, fmt.Errorf("rules of %d bytes, above %d", c.size, maxRules)
	}
	return exclude.Read(c.content())
}

// maxRules bounds a .caexclude, which is kept in memory.
const maxRules = 16 << 20

// kept reports whether the archive has nodes of n's kind.
func (p *packer) kept(n *node) bool {
	needs := feature.Flags(0)
	switch n.mode & catar.ModeType {
	case catar.ModeLink:
		needs = feature.Symlinks
	case catar.ModeBlock, catar.ModeChar:
		needs = feature.DeviceNodes
	case catar.ModeFIFO:
		needs = feature.FIFOs
	}
	noDump := p.flags&feature.ExcludeNoDump != 0 && n.more != nil && n.more.Flags&feature.NoDump != 0
	return needs&^p.flags == 0 && !noDump
}

func (p *packer) begin(n *node, name string) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	p.entries++
	return p.enc.Begin(name, n.entry())
}

// leaf writes a node that is no directory.
func (p *packer) leaf(n *node, where, name string) error {
	if err := p.begin(n, name); err != nil || n.size == 0 {
		return err
	}
	got, err := p.enc.ReadFrom(watched{p.ctx, n.content()})
	if err == nil && got < n.size {
		err = fmt.Errorf("layers: %q: ended %d bytes early, so the file that it is read from has changed", where, n.size-got)
	}
	return err
}

// A watched file ends when nobody wants it any more: it may be long.
type watched struct {
	ctx context.Context
	*io.SectionReader
}

func (w watched) Read(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.SectionReader.Read(p)
}
