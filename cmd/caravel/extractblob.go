package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"caravel/chunker"
	"caravel/image"
	"caravel/index"
	"caravel/internal/notify"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/open"
)

// An extractedBlob is what JSON says of a disk image: bytes, and of how many chunks.
type extractedBlob struct {
	Kept     int64 `json:"kept"`
	Holes    int64 `json:"holes"`
	Seeded   int64 `json:"seeded"`
	Repeated int64 `json:"repeated"`
	Cloned   int64 `json:"cloned"` // of those
	Fetched  int64 `json:"fetched"`

	Chunks extractedChunks `json:"chunks"`

	// Weight is what chunks weigh that a dry run would fetch, if their store is on this
	// machine.
	Weight *int64 `json:"weight,omitempty"`
}

type extractedChunks struct {
	Kept     int64 `json:"kept"`
	Holes    int64 `json:"holes"`
	Seeded   int64 `json:"seeded"`
	Repeated int64 `json:"repeated"`
	Fetched  int64 `json:"fetched"`
}

func newExtractedBlob(e image.Extracted) extractedBlob {
	return extractedBlob{
		Kept: e.Kept.Bytes, Holes: e.Holes.Bytes, Seeded: e.Seeded.Bytes,
		Repeated: e.Repeated.Bytes, Cloned: e.Cloned, Fetched: e.Fetched.Bytes,
		Chunks: extractedChunks{
			Kept: e.Kept.Chunks, Holes: e.Holes.Chunks, Seeded: e.Seeded.Chunks,
			Repeated: e.Repeated.Chunks, Fetched: e.Fetched.Chunks,
		},
	}
}

// print says what a dry run has found out.
func (b extractedBlob) print(w io.Writer) error {
	for _, line := range []struct {
		what          string
		bytes, chunks int64
	}{
		{"in place", b.Kept, b.Chunks.Kept},
		{"zeros", b.Holes, b.Chunks.Holes},
		{"from seeds", b.Seeded, b.Chunks.Seeded},
		{"repeated", b.Repeated, b.Chunks.Repeated},
		{"to be fetched", b.Fetched, b.Chunks.Fetched},
	} {
		if _, err := fmt.Fprintf(w, "%-13s %15d bytes in %d chunks\n", line.what, line.bytes, line.chunks); err != nil {
			return err
		}
	}
	if b.Weight == nil {
		return nil
	}
	_, err := fmt.Fprintf(w, "%-13s %15d bytes in the store\n", "which take", *b.Weight)
	return err
}

func (e *extraction) blob(ctx context.Context, from *lazyOpener, img *openedImage) (any, error) {
	e.out = cmp.Or(e.out, "-")
	if e.path != "" {
		return nil, e.noEntry()
	}
	x := img.Index
	e.shown.Total(x.Size())
	_ = notify.Send(notify.Ready) // nobody need listen
	if e.out == "-" {
		all := image.Extracted{Fetched: image.Share{Chunks: int64(x.Len()), Bytes: x.Size()}}
		if e.dryRun {
			return newExtractedBlob(all), nil
		}
		return newExtractedBlob(all), image.Stream(ctx, x, img.store, e.std.out, 0, x.Size(), image.StreamOptions{
			InFlight: e.source.workers,
			Progress: e.shown.Counter(),
		})
	}
	seeds := e.seeds.seeds(x, e.in, from.log)
	defer seeds.Close()
	var fetch func(index.Chunk)
	var weigh scales
	if e.dryRun {
		weigh.open(from.locations(e.in), from.where.Form)
		fetch = func(c index.Chunk) { weigh.add(ctx, c.ID) }
	}
	got, err := image.Extract(ctx, x, img.store, e.out, image.ExtractOptions{
		InPlace:   e.inPlace,
		Fill:      !e.holes,
		NoSync:    e.noSync,
		InFlight:  e.source.workers,
		Progress:  e.shown.Counter(),
		Seeds:     seeds,
		NoOld:     !e.seeds.output,
		NoReflink: !e.seeds.reflink,
		DryRun:    e.dryRun,
		Fetch:     fetch,
		Log:       from.log,
	})
	blob := newExtractedBlob(got)
	if weigh.dirs != nil {
		blob.Weight = &weigh.bytes
	}
	if err == nil && e.printStats {
		err = e.stats(got, x.Len(), x.Size(), len(seeds.Seeds()))
	}
	return blob, err
}

// stats prints what desync's --print-stats prints. The zeros are one of its seeds.
func (e *extraction) stats(got image.Extracted, chunks int, size int64, seeds int) error {
	b, err := json.MarshalIndent(map[string]any{
		"chunks-from-seeds":       got.Seeded.Chunks + got.Repeated.Chunks + got.Holes.Chunks,
		"chunks-from-store":       got.Fetched.Chunks,
		"chunks-in-place":         got.Kept.Chunks,
		"bytes-copied-from-seeds": got.Seeded.Bytes + got.Repeated.Bytes - got.Cloned,
		"bytes-cloned-from-seeds": got.Cloned,
		"blocksize":               got.Block,
		"bytes-total":             size,
		"chunks-total":            chunks,
		"seeds":                   seeds + 1,
	}, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(e.std.out, "%s\n", b)
	}
	return err
}

// scales find out what chunks weigh in stores that are directories.
type scales struct {
	dirs  []*local.Dir // nil: that is not known
	forms []store.Form
	bytes int64
}

func (s *scales) open(locations []string, form store.Form) {
	for _, l := range locations {
		if strings.Contains(l, "|") || open.Remote(l) {
			s.dirs = nil
			return
		}
		s.dirs = append(s.dirs, local.New(l, local.Options{}))
	}
	packed, plain := form, form
	plain.Compression = store.None
	s.forms = []store.Form{packed, plain}
}

// add weighs one more. What is not there will be an error of the run.
func (s *scales) add(ctx context.Context, id chunker.ID) {
	for _, d := range s.dirs {
		for _, f := range s.forms {
			if info, err := d.Stat(ctx, f.Name(id)); err == nil {
				s.bytes += info.Size
				return
			}
		}
	}
}
