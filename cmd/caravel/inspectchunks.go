package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store/local"
	"caravel/store/open"
)

type inspectOptions struct {
	source   sourceOptions // its store is looked at
	progress progress.Mode
	log      logOptions
}

func inspectChunksCommand() *cli.Command {
	var opt inspectOptions
	var asJSON bool
	storeFlag := newList("store", "say how large chunks are in `STORE`, a path or URL", &opt.source.stores, "s")
	return &cli.Command{
		Name:      "inspect-chunks",
		Category:  stores,
		Usage:     "list the sizes of an image's chunks, also as they are stored",
		ArgsUsage: "INDEX [OUT]",
		Description: `Prints for each chunk of INDEX (a path, a URL, or "-" for standard input), in the
image's order, repeated ones each time, its ID and its size as a list of JSON, which goes
to OUT if that is named. With --store there is also, of those that are there, the size
that they have in the store. That is a request a chunk, and none is fetched. What is
printed is for programs, and for caravel info --chunks-info.

` + examples(
			"caravel inspect-chunks disk.caibx",
			"caravel inspect-chunks -s /srv/default.castr disk.caibx chunks.json",
			"caravel inspect-chunks -s http://host/default.castr disk.caibx | jq 'map(.compressed_size) | add'",
		),
		Flags: slices.Concat([]cli.Flag{
			storeFlag,
			&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "ask for `N` chunks at once", Value: workersValue(&opt.source.workers)},
			newSwitch("json", "print JSON, as in any case", &asJSON),
			progressFlag(&opt.progress),
		}, encryptionFlags(&opt.source.crypt), indexFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() < 1 || c.NArg() > 2:
				return usagef("want INDEX and perhaps OUT, not %d arguments", c.NArg())
			case len(opt.source.stores) > 1:
				return usagef("want one store, not %d", len(opt.source.stores))
			case c.IsSet("json") && !asJSON:
				return usagef("--json=no: there is nothing else")
			}
			return inspectChunks(c.Context, streamsOf(c), c.Args().First(), argument(c, 1, "-"), opt)
		},
	}
}

// An inspected chunk is what inspect-chunks prints of it, in desync's words.
type inspected struct {
	ID     chunker.ID `json:"id"`
	Size   int64      `json:"uncompressed_size"`
	Packed *int64     `json:"compressed_size,omitempty"` // nil: unknown
}

// inspectChunks prints the sizes of chunks.
func inspectChunks(ctx context.Context, std streams, in, out string, opt inspectOptions) error {
	if out != "-" {
		if err := canPut(out); err != nil {
			return err
		}
	}
	shown := progress.New(std.err, opt.progress, "inspect-chunks "+redact.URL(in), 0)
	u, packed, err := opt.sizes(ctx, std, in, shown)
	shown.Done(err)
	if err != nil {
		return err
	}
	print := func(w io.Writer) error { return printInspected(w, u, packed) }
	if out == "-" {
		return print(std.out)
	}
	return putPrinted(ctx, out, local.Options{Sync: true}, print)
}

// sizes finds the chunks of an image and, if a store is named, their sizes there.
func (o inspectOptions) sizes(ctx context.Context, std streams, in string, shown *progress.Progress) (u *image.Unique, packed []int64, err error) {
	from, err := newOpener(std, o.source, o.log.logger(shown))
	if err != nil {
		return nil, nil, err
	}
	defer from.Close()
	if err := from.unlock(ctx); err != nil {
		return nil, nil, err
	}
	x, err := from.index(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	u = image.UniqueOf(x)
	if len(o.source.stores) == 0 {
		return u, nil, nil
	}
	blobs, form, err := open.Folder(o.source.stores[0], from.where)
	if err != nil {
		return nil, nil, err
	}
	shown.Total(u.Tally(func(int) bool { return true }).Bytes)
	packed, err = image.Stored(ctx, u, blobs, form, image.SurveyOptions{InFlight: o.source.workers, Progress: shown.Counter()})
	return u, packed, err
}

// printInspected prints a list as desync indents it, without having all of it in memory.
// packed, if not nil, has for each of the chunks its size in the store, or -1.
func printInspected(w io.Writer, u *image.Unique, packed []int64) error {
	buf := bufio.NewWriterSize(w, 64<<10)
	buf.WriteString("[")
	before := "\n  "
	for row, place := range u.Place {
		c := u.Index.Chunk(row)
		one := inspected{ID: c.ID, Size: int64(c.Size)}
		if packed != nil && packed[place] >= 0 {
			one.Packed = &packed[place]
		}
		text, err := json.MarshalIndent(one, "  ", "  ")
		if err != nil {
			return err
		}
		buf.WriteString(before)
		if _, err := buf.Write(text); err != nil {
			return err
		}
		before = ",\n  "
	}
	if len(u.Place) > 0 {
		buf.WriteString("\n")
	}
	buf.WriteString("]\n")
	return buf.Flush()
}

// readInspected reads what inspect-chunks has printed.
func readInspected(path string) (map[chunker.ID]inspected, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseInspected(bufio.NewReaderSize(f, 64<<10))
}

// parseInspected reads a list one chunk after the other, of which none is believed to
// have a size that chunks cannot have.
func parseInspected(r io.Reader) (map[chunker.ID]inspected, error) {
	list := json.NewDecoder(r)
	if t, err := list.Token(); err != nil || t != json.Delim('[') {
		return nil, cmp.Or(err, errors.New("is no list of chunks"))
	}
	known := map[chunker.ID]inspected{}
	for list.More() {
		var one inspected
		if err := list.Decode(&one); err != nil {
			return nil, err
		}
		if one.Size < 0 || one.Packed != nil && (*one.Packed < 0 || *one.Packed > 2*chunker.MaxSize) {
			return nil, fmt.Errorf("chunk %s: has a size that no chunk has", one.ID)
		}
		known[one.ID] = one
	}
	_, err := list.Token()
	return known, err
}
