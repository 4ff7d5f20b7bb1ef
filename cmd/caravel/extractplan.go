package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"

	"caravel/archive"
	"caravel/catar"
	"caravel/catar/restore"
	"caravel/catar/tree"
	"caravel/chunker"
	"caravel/index"
	"caravel/listing"
	"caravel/seed"
)

// A plannedChange is what JSON says of an entry, one to a line.
type plannedChange struct {
	Action restore.Action `json:"action"`
	Path   string         `json:"path"`

	PathBytes []byte `json:"path_bytes,omitempty"` // if that is no UTF-8; base64
}

func newPlannedChange(what restore.Action, path string) plannedChange {
	c := plannedChange{Action: what}
	c.Path, c.PathBytes = listing.Path(path)
	return c
}

// A plannedTree is what JSON says of the whole, behind these.
type plannedTree struct {
	Create  int64 `json:"create"`
	Replace int64 `json:"replace"`
	Keep    int64 `json:"keep"`
	Remove  int64 `json:"remove"`
	Extra   int64 `json:"extra"`

	Fetched *plannedFetch `json:"fetched,omitempty"` // of an index only
}

type plannedFetch struct {
	Chunks int64 `json:"chunks"`
	Bytes  int64 `json:"bytes"` // unpacked
}

func (p *plannedTree) count(what restore.Action) {
	*map[restore.Action]*int64{
		restore.Create: &p.Create, restore.Replace: &p.Replace, restore.Keep: &p.Keep,
		restore.Remove: &p.Remove, restore.Extra: &p.Extra,
	}[what]++
}

// plan says what extract would do, and does nothing.
func (e *extraction) plan(ctx context.Context, a archive.Archive, opt restore.Options) error {
	t, err := a.Random(ctx)
	if err != nil {
		return err
	}
	at, err := t.Find(ctx, e.path)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(e.std.out, 64<<10)
	defer out.Flush()
	lines := json.NewEncoder(out)
	dir := e.out
	if e.path != "" {
		dir = filepath.Join(dir, path.Base(e.path))
	}
	var sum plannedTree
	err = restore.Plan(dir, t.Flags(), planned(ctx, t, at.ID), opt, func(p string, what restore.Action) {
		sum.count(what)
		switch {
		case what == restore.Keep:
		case e.json:
			_ = lines.Encode(newPlannedChange(what, p)) // Flush tells
		default:
			fmt.Fprintf(out, "%-7s %s\n", what, listing.AppendPath(nil, filepath.Join(dir, p)))
		}
	})
	if err != nil {
		return err
	}
	if e.index != nil {
		sum.Fetched = toFetch(e.index, t.Span(at.ID), e.sets)
	}
	if e.json {
		return cmp.Or(lines.Encode(sum), out.Flush())
	}
	fmt.Fprintf(out, "%d to create, %d to replace, %d to remove, %d right as they are\n", sum.Create, sum.Replace, sum.Remove, sum.Keep)
	if sum.Extra > 0 {
		fmt.Fprintf(out, "%d are not in the tree; say --delete=yes or --delete=no\n", sum.Extra)
	}
	if f := sum.Fetched; f != nil {
		fmt.Fprintf(out, "%d chunks of %d bytes to be read from the store\n", f.Chunks, f.Bytes)
	}
	return out.Flush()
}

// planned are the entries of a part of a tree.
func planned(ctx context.Context, t *archive.Random, id tree.ID) func(yield func(restore.Planned, error) bool) {
	return func(yield func(restore.Planned, error) bool) {
		for step, err := range t.Walk(ctx, id, -1) {
			var n restore.Planned
			if err == nil {
				n = restore.Planned{Path: step.Path, Entry: catar.Entry{
					Mode: step.Mode, UID: step.UID, GID: step.GID, MTime: step.MTime, Size: step.Size,
					Major: step.Major, Minor: step.Minor,
				}}
				n.Entry.User, n.Entry.Group = t.Owners(step.ID)
			}
			if !yield(n, err) || err != nil {
				return
			}
		}
	}
}

// toFetch is what no seed has of a part of an image.
func toFetch(x *index.Index, span catar.Span, seeds []*seed.Set) *plannedFetch {
	var f plannedFetch
	seen := map[chunker.ID]bool{}
	first, last := x.Range(span.Start, span.End-span.Start)
	for i := first; i < last; i++ {
		c := x.Chunk(i)
		here := seen[c.ID]
		for _, s := range seeds {
			_, _, ok := s.Find(c.ID)
			here = here || ok
		}
		if !here {
			seen[c.ID] = true
			f.Chunks++
			f.Bytes += int64(c.Size)
		}
	}
	return &f
}
