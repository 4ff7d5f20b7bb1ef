package main

import (
	"context"
	"encoding/json"
	"os"

	"caravel/chunker"
	"caravel/image"
	"caravel/internal/progress"
	"caravel/store"
	"caravel/store/open"
)

// pullOptions are those of pull with a digest.
type pullOptions struct {
	source   sourceOptions
	out      string
	noSync   bool
	progress progress.Mode
	log      logOptions
	json     bool
}

// asDigest tells whether an argument is the ID of a prepared image, and no file.
func asDigest(arg string) (chunker.ID, bool) {
	id, err := chunker.ParseID(arg)
	if err != nil {
		return id, false
	}
	_, err = os.Lstat(arg)
	return id, err != nil
}

// pullImage writes a prepared image to a file, or to standard output.
func pullImage(ctx context.Context, std streams, root chunker.ID, opt pullOptions) error {
	shown := progress.New(std.err, opt.progress, "pull "+root.String()[:8], 0)
	got, err := opt.pull(ctx, std, root, shown)
	shown.Done(err)
	if err != nil || !opt.json {
		return err
	}
	to := std.out
	if opt.out == "-" {
		to = std.err
	}
	return json.NewEncoder(to).Encode(got)
}

func (o pullOptions) pull(ctx context.Context, std streams, root chunker.ID, shown *progress.Progress) (extractedBlob, error) {
	if o.out != "-" {
		if err := canPut(o.out); err != nil {
			return extractedBlob{}, err
		}
	}
	from, err := newOpener(std, o.source, o.log.logger(shown))
	if err != nil {
		return extractedBlob{}, err
	}
	defer from.Close()
	s, err := from.prepared(ctx)
	if err != nil {
		return extractedBlob{}, err
	}
	p, err := image.ReadPrepared(ctx, s, root)
	if err != nil {
		return extractedBlob{}, err
	}
	shown.Total(p.Index.Size())
	if o.out == "-" {
		err := image.Stream(ctx, p.Index, s, std.out, 0, p.Index.Size(), image.StreamOptions{InFlight: o.source.workers, Progress: shown.Counter()})
		return newExtractedBlob(image.Extracted{Fetched: image.Share{Chunks: int64(p.Index.Len()), Bytes: p.Index.Size()}}), err
	}
	got, err := image.Extract(ctx, p.Index, s, o.out, image.ExtractOptions{NoSync: o.noSync, InFlight: o.source.workers, Progress: shown.Counter()})
	return newExtractedBlob(got), err
}

// prepared opens the stores that prepared images are in: those that are named, or the
// one here.
func (o *opener) prepared(ctx context.Context) (store.Store, error) {
	if err := o.unlock(ctx); err != nil {
		return nil, err
	}
	o.stacks.Lock()
	defer o.stacks.Unlock()
	if len(o.opt.stores) == 0 {
		o.opt.stores = []string{defaultStoreHere()}
	}
	st, err := o.stack(&openedImage{once: true}) // no index can be in doubt
	if err != nil {
		return nil, err
	}
	return store.Verify(st.store), nil
}

// preparedIn reads the index of a prepared image in a store.
func (o *opener) preparedIn(ctx context.Context, location string, root chunker.ID) (*image.Prepared, error) {
	if err := o.unlock(ctx); err != nil {
		return nil, err
	}
	s, err := open.Store(location, o.where)
	if err != nil {
		return nil, err
	}
	return image.ReadPrepared(ctx, s, root)
}
