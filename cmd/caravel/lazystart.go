package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"caravel/index"
	"caravel/store/local"
)

// startLazy makes the opener of a command that shows images until it is told to
// end. Closed, when its images are, it reports what was done.
func startLazy(ctx context.Context, std streams, opt lazyOptions) (*lazyOpener, error) {
	if err := opt.canReport(); err != nil {
		return nil, err
	}
	o, err := newLazyOpener(std, opt, opt.log.logger(std.log))
	if err != nil {
		return nil, err
	}
	if where := opt.profileFile(); where != "" {
		if o.named, err = o.profile(ctx, where); err != nil {
			return nil, errors.Join(fmt.Errorf("--profile: %w", err), o.opener.Close())
		}
	}
	o.stopReports = onReportSignal(func() {
		if err := o.report(std.err, true); err != nil {
			o.log.Warn("no report", "err", err)
		}
	})
	if o.corInit, err = readCorState(opt.corInit); err != nil {
		return nil, errors.Join(fmt.Errorf("--cor-state-init: %w", err), o.Close())
	}
	o.stopReloads = o.reloads()
	return o, nil
}

// canReport finds out, before a run that may take days, whether what it has to
// tell, or to make, can be written.
func (o lazyOptions) canReport() error {
	if err := canWriteAt(o.record); err != nil {
		return fmt.Errorf("--record: %w", err)
	}
	if err := canWriteAt(o.corSave); err != nil {
		return fmt.Errorf("--cor-state-save: %w", err)
	}
	if err := canWrite(o.statsFile); err != nil {
		return fmt.Errorf("--stats-file: %w", err)
	}
	if !o.toFile() {
		return nil
	}
	if err := canWrite(o.materialize); err != nil {
		return fmt.Errorf("--materialize: %w", err)
	}
	return nil
}

// writeProfile writes what was touched of the image, if there is one by now.
func (o *lazyOpener) writeProfile() error {
	img, x, err := o.recorded()
	if err != nil || img == nil || o.lazy.record == "" {
		return err
	}
	var b bytes.Buffer
	if _, err := img.recorder.Profile(x).WriteTo(&b); err != nil {
		return err
	}
	ctx := context.Background() // the command is about to end
	return putAt(ctx, o.lazy.record, b.Bytes(), local.Options{Sync: true}, o.where)
}

// recorded is the image of which is recorded what is touched, and its index; nil if
// there is none, or not yet.
func (o *lazyOpener) recorded() (*cachedImage, *index.Index, error) {
	o.mu.Lock()
	images := slices.Clone(o.cached)
	o.mu.Unlock()
	if len(images) == 0 || images[0].recorder == nil {
		return nil, nil, nil
	}
	img := images[0] // there are no others, see ofOneImage
	x := img.whole()
	if x == nil {
		return nil, nil, fmt.Errorf("%s: nothing is recorded: its index is not here to the end", img.src.where)
	}
	return img, x, nil
}

// writeReport puts a file in its place, though the command is about to end.
func writeReport(path string, content []byte) error {
	return putFile(context.Background(), path, bytes.NewReader(content), local.Options{Sync: true})
}

// settle waits for what is still on its way into the cache on disk, so that it is
// counted, too; but not for a disk that hangs.
func (o *lazyOpener) settle() {
	o.mu.Lock()
	disk := o.disk
	o.mu.Unlock()
	if disk == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = disk.Sync(ctx) // Close waits for the rest
}

// Close ends all that is under way, and reports what was done.
func (o *lazyOpener) Close() error {
	if o.stopReloads != nil {
		o.stopReloads()
	}
	if o.stopReports != nil {
		o.stopReports()
		o.settle()
		return errors.Join(o.report(o.stderr, o.lazy.stats), o.opener.Close())
	}
	return o.opener.Close()
}
