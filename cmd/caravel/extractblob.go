package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"caravel/image"
	"caravel/internal/notify"
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

// printStats prints what desync's --print-stats prints. Its null seed, which has the
// zeros, counts as a seed; what repeats in the image comes from a seed there, too.
func (b extractedBlob) printStats(w io.Writer, img *openedImage, seeds int) error {
	to := json.NewEncoder(w)
	to.SetIndent("", "  ")
	return to.Encode(struct {
		Seeded int64 `json:"chunks-from-seeds"`
		Stored int64 `json:"chunks-from-store"`
		Kept   int64 `json:"chunks-in-place"`
		Copied int64 `json:"bytes-copied-from-seeds"`
		Cloned int64 `json:"bytes-cloned-from-seeds"`
		Block  int64 `json:"blocksize"` // of a file system, that blocks are shared in
		Bytes  int64 `json:"bytes-total"`
		Chunks int   `json:"chunks-total"`
		Seeds  int   `json:"seeds"`
	}{
		b.Chunks.Seeded + b.Chunks.Repeated + b.Chunks.Holes, b.Chunks.Fetched, b.Chunks.Kept,
		b.Seeded + b.Repeated + b.Holes - b.Cloned, b.Cloned, 4096,
		img.Index.Size(), img.Index.Len(), seeds + 1,
	})
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
	return nil
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
		Log:       from.log,
	})
	report := newExtractedBlob(got)
	if err == nil && e.printStats {
		err = report.printStats(e.std.out, img, len(e.seeds.named)+len(e.seeds.folders))
	}
	return report, err
}
