package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/open"
)

type verifyOptions struct {
	source   sourceOptions // its first store is verified
	digest   *chunker.Digest
	repair   bool
	progress progress.Mode
	log      logOptions
	json     bool
}

func verifyCommand() *cli.Command {
	opt := verifyOptions{source: sourceOptions{timeout: time.Minute}}
	var digest chunker.Digest
	storeFlag := newList("store", "verify `STORE`, a path or URL; with --repair, the others that are named have what it lacks", &opt.source.stores, "s")
	storeFlag.EnvVars = []string{"CASYNC_STORE"}
	return &cli.Command{
		Name:      "verify",
		Category:  stores,
		Usage:     "read and check every chunk of a store",
		ArgsUsage: " ",
		Description: `Reads every chunk of a store, compressed or not, encrypted with the key that is
named or not, and compares its digest with its name. Those that are bad go to
standard error, a line each, and so does what is no chunk: files of others, and what
a writer has left that was killed. A store over a network has to be one that can be
listed, which a web server cannot. The exit status is 1 if a chunk is bad.

With --repair a bad chunk is fetched again from the other stores; if they do not
have it, it is put aside, under its name and .damaged.

` + examples(
			"caravel verify -s /srv/default.castr",
			"caravel verify --repair -s /srv/default.castr -s http://host/default.castr",
			"caravel verify --encryption-key-file=key -s /srv/secret.castr",
		),
		Flags: slices.Concat([]cli.Flag{
			storeFlag,
			newList("extra-store", "as a further --store", &opt.source.extraStores),
			newSwitch("repair", "replace bad chunks, or put them aside", &opt.repair, "r"),
			&cli.GenericFlag{Name: "digest", Usage: "the `ALGORITHM` that chunks go by: sha512-256 or sha256", DefaultText: "either", Value: digestValue(&digest)},
			&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "work on `N` chunks at once", Value: workersValue(&opt.source.workers)},
			&cli.GenericFlag{Name: "timeout", Usage: "give up a chunk with all retries after `TIME`; 0: never", Value: durationValue(&opt.source.timeout)},
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, encryptionFlags(&opt.source.crypt), placeFlags(&opt.source.reach), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() > 0:
				return usagef("want no arguments, not %d; name the store with --store", c.NArg())
			case len(opt.source.stores) == 0:
				return usagef("name the store with --store")
			}
			if c.IsSet("digest") {
				opt.digest = &digest
			}
			return verifyStore(c.Context, streamsOf(c), opt)
		},
	}
}

// A verifyReport is what verify prints as JSON.
type verifyReport struct {
	Chunks   int64           `json:"chunks"` // good ones
	Bytes    int64           `json:"bytes"`  // as they are stored
	Bad      int64           `json:"bad"`    // after all repairs
	Repaired int64           `json:"repaired"`
	OtherKey int64           `json:"otherKey"` // not verified
	Found    []verifyFinding `json:"found"`
}

type verifyFinding struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Error    string `json:"error,omitempty"`
	Repaired bool   `json:"repaired,omitempty"`
	Aside    bool   `json:"aside,omitempty"`
}

// verifyStore verifies the first of the stores.
func verifyStore(ctx context.Context, std streams, opt verifyOptions) error {
	where := redact.URL(opt.source.stores[0])
	shown := progress.New(std.err, opt.progress, "verify "+where, 0)
	log := opt.log.logger(shown)
	report := verifyReport{Found: []verifyFinding{}}
	got, err := opt.verify(ctx, std, log, shown, &report)
	if err == nil {
		err = opt.judge(got, where, log)
	}
	shown.Done(err)
	if !opt.json {
		return err
	}
	report.Chunks, report.Bytes, report.Bad = got.Chunks, got.Bytes, got.Bad()
	report.Repaired, report.OtherKey = got.Fixed, got.Found[image.OtherKey]
	if failed := json.NewEncoder(std.out).Encode(report); err == nil {
		err = failed
	}
	return err
}

// verify does the work; what is found is shown, and goes into the report.
func (o verifyOptions) verify(ctx context.Context, std streams, log *slog.Logger, shown *progress.Progress, report *verifyReport) (image.Verified, error) {
	from, err := newOpener(std, o.source, log)
	if err != nil {
		return image.Verified{}, err
	}
	defer from.Close()
	if err := from.unlock(ctx); err != nil {
		return image.Verified{}, err
	}
	blobs, form, err := open.Folder(o.source.stores[0], from.where)
	if err != nil {
		return image.Verified{}, err
	}
	others, err := o.others(from)
	if err != nil {
		return image.Verified{}, err
	}
	opt := image.VerifyOptions{
		Key:      form.Key,
		Workers:  o.source.workers,
		Patience: from.where.Timeout,
		Progress: shown.Counter(),
		Repair:   o.repair,
		From:     others,
		Found: func(f image.Finding) {
			if f.Kind == image.OtherKey {
				return // counted; there may be as many as chunks
			}
			say(shown, blobs, f)
			report.add(f)
		},
	}
	if _, here := blobs.(*local.Dir); here {
		opt.Patience = 0 // what a disk cannot read it cannot read the next time
	}
	if o.digest != nil {
		opt.Digests = []chunker.Digest{*o.digest}
	}
	return image.Verify(ctx, blobs, opt)
}

// others are the stores that chunks are repaired from; nil if there is none.
func (o verifyOptions) others(from *opener) (store.Store, error) {
	locations := o.source.allStores()[1:]
	if !o.repair || len(locations) == 0 {
		return nil, nil
	}
	where := from.where
	where.Form.Either = true // a round trip more, for few chunks
	all := make([]store.Store, len(locations))
	for i, l := range locations {
		var err error
		if all[i], err = open.Store(l, where); err != nil {
			return nil, err
		}
	}
	return store.Router(from.log, all...), nil
}

// say writes a line about a finding.
func say(w io.Writer, b store.Blobs, f image.Finding) {
	where := f.Name
	if l, ok := b.(store.Locator); ok {
		where = l.Locate(f.Name)
	}
	line := f.Kind.String() + ": " + where
	if f.Err != nil {
		why := oneLine(f.Err.Error())
		if line += ": " + why; strings.Contains(why, where) {
			line = f.Kind.String() + ": " + why
		}
	}
	switch {
	case f.Repaired:
		line += "; repaired"
	case f.Aside:
		line += "; put aside"
	}
	fmt.Fprintln(w, line)
}

func (r *verifyReport) add(f image.Finding) {
	found := verifyFinding{Kind: f.Kind.String(), Name: f.Name, Repaired: f.Repaired, Aside: f.Aside}
	if f.Err != nil {
		found.Error = oneLine(f.Err.Error())
	}
	r.Found = append(r.Found, found)
}

// judge says whether a store is all right.
func (o verifyOptions) judge(got image.Verified, where string, log *slog.Logger) error {
	other := got.Found[image.OtherKey]
	switch {
	case got.Bad() > 0:
		return fmt.Errorf("%s: %d of %d chunks are bad", where, got.Bad(), got.Chunks+got.Bad())
	case other > 0 && got.Chunks == 0:
		return fmt.Errorf("%s: none of the %d chunks could be verified: they are encrypted with another key", where, other)
	case other > 0:
		log.Warn("chunks that are encrypted with another key were not verified", "chunks", other)
	}
	if o.log.verbose {
		log.Info("verified", "store", where, "chunks", got.Chunks, "bytes", got.Bytes, "repaired", got.Fixed)
	}
	return nil
}
