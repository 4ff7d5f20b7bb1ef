package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/image"
	"caravel/index"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/open"
)

type infoOptions struct {
	source     sourceOptions
	seeds      []string
	chunksInfo string // a file of inspect-chunks; "": none
	format     infoFormat
	more       bool
	progress   progress.Mode
	log        logOptions
}

// An infoFormat is how info prints.
type infoFormat string

const (
	infoJSON  infoFormat = "json"
	infoPlain infoFormat = "plain"
)

func infoCommand() *cli.Command {
	opt := infoOptions{format: infoJSON}
	var asJSON bool
	return &cli.Command{
		Name:      "info",
		Category:  stores,
		Usage:     "count the chunks of an image, and those that are here already",
		ArgsUsage: "INDEX",
		Description: `Prints what INDEX (a path, a URL, or "-" for standard input) says of its image, and
how many of its chunks the stores of --store have, that of --cache, and the images of
--seed, as JSON or as text, with desync's words. No chunk is fetched: each store is
asked for each chunk, all stores at one time, and one that does not answer is an error.
Without --store none is asked. Sizes are of plain bytes, each chunk counted once, but
"size", the image's, and with --chunks-info "…-compressed": what is to be fetched, as
the store packs it, or 0 where the file lacks some of that.

With --more there are, besides: what kind of image it is, the digest that --index-digest
takes, how much of it repeats, what is on this machine (in the stores here, --cache and
--cache-dir), and what each store has; then the store beside INDEX is asked if none is
named and it is there.

` + examples(
			"caravel info disk.caibx",
			"caravel info --format=plain -s http://host/default.castr http://host/disk.caibx",
			"# how much there is to fetch for who has the last version",
			"caravel info --seed=v1.caibx v2.caibx | jq '.\"dedup-size-not-in-seed\"'",
			"caravel info --more http://host/disk.caibx",
		),
		Flags: slices.Concat([]cli.Flag{
			newList("seed", "count the chunks of the image of `INDEX` as there; may be repeated", &opt.seeds),
			&cli.StringFlag{Name: "chunks-info", Usage: "take the sizes of packed chunks from `FILE`, written by caravel inspect-chunks", Destination: &opt.chunksInfo},
			&cli.GenericFlag{Name: "format", Aliases: []string{"f"}, Usage: "print `FORMAT`: json or plain", Value: infoFormatValue(&opt.format)},
			newSwitch("more", "print more than desync does", &opt.more),
			newSwitch("json", "print JSON, as without a --format", &asJSON),
			progressFlag(&opt.progress),
		}, sourceFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() != 1:
				return usagef("want INDEX, not %d arguments", c.NArg())
			case asJSON && opt.format != infoJSON:
				return usagef("--json and --format=%s exclude each other", opt.format)
			}
			return info(c.Context, streamsOf(c), c.Args().First(), opt)
		},
	}
}

func infoFormatValue(to *infoFormat) cli.Generic {
	parse := func(s string) (infoFormat, error) {
		f := infoFormat(s)
		if f != infoJSON && f != infoPlain {
			return "", errors.New("want json or plain")
		}
		return f, nil
	}
	return &value[infoFormat]{to, parse, func(f infoFormat) string { return string(f) }}
}

// info prints what is known of an image's chunks.
func info(ctx context.Context, std streams, in string, opt infoOptions) error {
	shown := progress.New(std.err, opt.progress, "info "+redact.URL(in), 0)
	got, err := opt.inform(ctx, std, in, shown)
	shown.Done(err)
	if err != nil {
		return err
	}
	if opt.format == infoPlain {
		return got.plain(std.out)
	}
	to := json.NewEncoder(std.out)
	to.SetIndent("", "  ")
	return to.Encode(got)
}

func (o infoOptions) inform(ctx context.Context, std streams, in string, shown *progress.Progress) (*infoReport, error) {
	log := o.log.logger(shown)
	from, err := newOpener(std, o.source, log)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	if err := from.unlock(ctx); err != nil {
		return nil, err
	}
	x, err := from.index(ctx, in)
	if err != nil {
		return nil, err
	}
	var seeds []*index.Index
	for _, location := range o.seeds {
		s, err := from.index(ctx, location)
		if err != nil {
			return nil, fmt.Errorf("--seed: %w", err)
		}
		seeds = append(seeds, s)
	}
	places, err := o.places(from, in)
	if err != nil {
		return nil, err
	}
	u := image.UniqueOf(x)
	all := u.Tally(func(int) bool { return true })
	shown.Total(all.Bytes * int64(len(places)))
	seeded := u.Seeded(seeds...)
	there, err := image.Survey(ctx, u, storesOf(places), image.SurveyOptions{InFlight: o.source.workers, Progress: shown.Counter()})
	if err != nil {
		return nil, err
	}
	r := newInfoReport(u, seeded, places, there)
	if o.more {
		r.infoMore = newInfoMore(u, places, there)
	}
	if o.chunksInfo == "" {
		return r, nil
	}
	return r, r.packed(u, o.chunksInfo, func(place int) bool { return !seeded[place] && !anyOf(places, there, isCache, place) }, log)
}

// An infoPlace is where chunks may be.
type infoPlace struct {
	store store.Store
	where string
	cache bool // it is that of --cache
	named bool // it is one of --store, or the one beside the index
	here  bool // it is on this machine
}

// places are those that are asked for the chunks of the image at a location.
func (o infoOptions) places(from *opener, in string) (places []infoPlace, err error) {
	locations := o.source.allStores()
	if len(locations) == 0 && o.more && in != "-" {
		if beside := open.DefaultStore(in); !lacksFolder(beside) {
			locations = []string{beside}
		}
	}
	remote := false
	for _, l := range locations {
		far := open.Remote(l)
		remote = remote || far
		s, err := open.Store(l, from.where)
		if err != nil {
			return nil, err
		}
		places = append(places, infoPlace{s, redact.URL(l), false, true, !far})
	}
	if l := o.source.cache; l != "" {
		s, err := open.Store(l, from.where)
		if err != nil {
			return nil, err
		}
		places = append(places, infoPlace{s, redact.URL(l), true, false, !open.Remote(l)})
	}
	if !o.more || !remote {
		return places, nil
	}
	disk, err := from.openDisk()
	if disk != nil {
		places = append(places, infoPlace{disk.Under(from.where.Form.Key), disk.String(), false, false, true})
	}
	return places, err
}

// lacksFolder reports whether a location is on this machine, and nothing is there.
func lacksFolder(location string) bool {
	path := pathOf(location)
	if path == "" {
		return false
	}
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func storesOf(places []infoPlace) (all []store.Store) {
	for _, p := range places {
		all = append(all, p.store)
	}
	return all
}

func isCache(p infoPlace) bool { return p.cache }
func isNamed(p infoPlace) bool { return p.named }
func isHere(p infoPlace) bool  { return p.here }

// anyOf reports whether a place of the kind has a chunk.
func anyOf(places []infoPlace, there [][]bool, kind func(infoPlace) bool, chunk int) bool {
	for i, p := range places {
		if kind(p) && there[i][chunk] {
			return true
		}
	}
	return false
}

// packed adds up the sizes of packed chunks, as a file of inspect-chunks says them.
func (r *infoReport) packed(u *image.Unique, file string, wanted func(place int) bool, log *slog.Logger) error {
	sizes, err := readInspected(file)
	if err != nil {
		return fmt.Errorf("--chunks-info: %s: %w", file, err)
	}
	var lacking, sum int64
	for place := range u.Rows {
		c := u.Chunk(place)
		said, known := sizes[c.ID]
		if known && said.Size != int64(c.Size) {
			return fmt.Errorf("--chunks-info: %s: chunk %s: %d bytes, the image says %d", file, c.ID, said.Size, c.Size)
		}
		switch {
		case !wanted(place):
		case said.Packed == nil:
			lacking++
		default:
			sum += *said.Packed
		}
	}
	if lacking > 0 { // a sum without them would look like all
		log.Warn("the file does not say how large all chunks are packed, so their sum is given as 0", "file", file, "chunks", lacking)
		return nil
	}
	r.NeededPacked = sum
	return nil
}

// printLines prints labels and numbers.
func printLines(w io.Writer, lines []infoLine) error {
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%s: %v\n", l.label, l.value); err != nil {
			return err
		}
	}
	return nil
}
