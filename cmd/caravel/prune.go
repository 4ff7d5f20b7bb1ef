package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"caravel/image"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store/open"
)

type pruneOptions struct {
	source   sourceOptions // its store is pruned
	age      time.Duration
	dryRun   bool
	yes      bool
	progress progress.Mode
	log      logOptions
	json     bool
}

func pruneCommand() *cli.Command {
	opt := pruneOptions{age: 24 * time.Hour}
	return &cli.Command{
		Name:      "prune",
		Category:  stores,
		Usage:     "remove the chunks that no image needs",
		ArgsUsage: "INDEX...",
		Description: pruneText + `

Asks before it removes anything; without a terminal --yes has to be said. caravel gc
does not ask.

` + examples(
			"caravel prune -s /srv/default.castr /srv/v2.caidx /srv/v3.caidx",
			"# all indexes in a folder, and below it",
			"caravel prune --yes -s /srv/default.castr /srv",
			"caravel prune --dry-run -s s3+https://host/bucket/default.castr s3+https://host/bucket/v3.caidx",
		),
		Flags: append(pruneFlags(&opt),
			newSwitch("yes", "do not ask", &opt.yes, "y"),
			&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "work on `N` chunks at once", Value: workersValue(&opt.source.workers)},
			newSwitch("dry-run", "print what would be removed, and remove nothing", &opt.dryRun)),
		Action: func(c *cli.Context) error { return opt.run(c) },
	}
}

func gcCommand() *cli.Command {
	opt := pruneOptions{age: 24 * time.Hour, yes: true}
	return &cli.Command{
		Name:      "gc",
		Category:  stores,
		Usage:     "remove the chunks that no image needs, without asking",
		ArgsUsage: "INDEX...",
		Description: pruneText + `

` + examples(
			"caravel gc /srv/v2.caidx /srv/v3.caidx",
			"caravel gc -n --store=/srv/default.castr /srv",
		),
		Flags:  append(pruneFlags(&opt), newSwitch("dry-run", "print what would be removed, and remove nothing", &opt.dryRun, "n")),
		Action: func(c *cli.Context) error { return opt.run(c) },
	}
}

const pruneText = `Removes from a store (default: the one beside the first INDEX) all chunks that no
INDEX names: paths, URLs, folders for all the indexes in and below them, or what caravel
prepare has printed. Name all
images that use the store; what the others need is gone. If an INDEX cannot be read,
nothing is removed. What writers that were killed have left there is removed, too;
whatever else lies in the store stays. A store over a network has to be one that can
be listed, which a web server cannot.

Nothing goes that is younger than --age: a caravel make that runs meanwhile has
stored it, or has found it there, which counts as new, and its index is still to
come. In stores behind a network what it has found does not count: there no make may
run at the same time.`

func pruneFlags(opt *pruneOptions) []cli.Flag {
	storeFlag := newList("store", "prune `STORE`, a path or URL", &opt.source.stores, "s")
	storeFlag.EnvVars = []string{"CASYNC_STORE"}
	return slices.Concat([]cli.Flag{
		storeFlag,
		&cli.GenericFlag{Name: "age", Usage: "leave what is younger than `TIME`; 0: nothing", Value: durationValue(&opt.age)},
		progressFlag(&opt.progress),
		jsonFlag(&opt.json),
	}, indexFlags(&opt.source), logFlags(&opt.log), impliedFlags())
}

func (o pruneOptions) run(c *cli.Context) error {
	switch {
	case c.NArg() == 0:
		return usagef("name the INDEX of each image that uses the store; all chunks of no image are removed")
	case len(o.source.stores) > 1:
		return usagef("want one store, not %d", len(o.source.stores))
	}
	return pruneStore(c.Context, streamsOf(c), c.Args().Slice(), o)
}

// A prunedReport is what prune prints as JSON.
type prunedReport struct {
	Kept    int64 `json:"kept"`    // chunks of the images
	Young   int64 `json:"young"`   // chunks of none, that stay
	Removed int64 `json:"removed"` // or would be
	Bytes   int64 `json:"bytes"`   // as they were stored
}

// pruneStore prunes a store.
func pruneStore(ctx context.Context, std streams, indexes []string, opt pruneOptions) error {
	if len(opt.source.stores) == 0 {
		opt.source.stores = []string{open.DefaultStore(indexes[0])}
		if _, ok := asDigest(indexes[0]); ok {
			opt.source.stores[0] = defaultStoreHere()
		}
	}
	to := opt.source.stores[0]
	shown := progress.New(std.err, opt.progress, "prune "+redact.URL(to), 0)
	out := bufio.NewWriter(std.out)
	got, err := opt.prune(ctx, std, to, indexes, out, shown)
	if failed := out.Flush(); err == nil {
		err = failed
	}
	shown.Done(err)
	switch {
	case err != nil:
		return err
	case opt.json:
		return json.NewEncoder(std.out).Encode(prunedReport(got))
	}
	would := ""
	if opt.dryRun {
		would = "would be "
	}
	_, err = fmt.Fprintf(std.err, "%d files %sremoved, %d bytes; %d chunks are in use", got.Removed, would, got.Bytes, got.Kept)
	if err == nil && got.Young > 0 {
		_, err = fmt.Fprintf(std.err, ", %d are younger than %v (--age) and stay", got.Young, opt.age)
	}
	if err == nil {
		_, err = fmt.Fprintln(std.err)
	}
	return err
}

func (o pruneOptions) prune(ctx context.Context, std streams, to string, indexes []string, out io.Writer, shown *progress.Progress) (got image.Pruned, err error) {
	from, err := newOpener(std, o.source, o.log.logger(shown))
	if err != nil {
		return got, err
	}
	defer from.Close()
	blobs, _, err := open.Folder(to, from.where)
	if err != nil {
		return got, err
	}
	var roots image.Roots
	if indexes, err = allIndexes(indexes); err != nil {
		return got, err
	}
	for _, in := range indexes {
		if root, ok := asDigest(in); ok {
			p, err := from.preparedIn(ctx, to, root)
			if err != nil {
				return got, fmt.Errorf("nothing is removed: %w", err)
			}
			roots.AddPrepared(p)
			continue
		}
		x, err := from.index(ctx, in)
		if err != nil {
			return got, fmt.Errorf("nothing is removed: %w", err)
		}
		roots.Add(x)
	}
	if !o.yes && !o.dryRun {
		if err := agreed(std, fmt.Sprintf("Remove from %s what these %d images do not need?", redact.URL(to), len(indexes))); err != nil {
			return got, err
		}
	}
	opt := image.PruneOptions{Age: o.age, DryRun: o.dryRun, Workers: o.source.workers, Progress: shown.Counter()}
	if o.age == 0 {
		opt.Age = -1
	}
	if o.dryRun && !o.json {
		opt.Removed = func(name string, _ int64) { fmt.Fprintln(out, name) }
	}
	return image.Prune(ctx, blobs, &roots, opt)
}

// allIndexes puts in the place of each folder of this machine the indexes in and below it.
func allIndexes(locations []string) (all []string, err error) {
	for _, l := range locations {
		dir := pathOf(l)
		if st, err := os.Stat(dir); dir == "" || err != nil || !st.IsDir() {
			all = append(all, l)
			continue
		}
		before := len(all)
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && strings.HasSuffix(path, ".castr"):
				return filepath.SkipDir // there are none, and many folders
			case !e.IsDir() && (hasEnding(path, ".caibx") || hasEnding(path, ".caidx")):
				all = append(all, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(all) == before {
			return nil, fmt.Errorf("%s: there is no index in it", l)
		}
	}
	return all, nil
}

// agreed asks whoever sits at the terminal; nil if he says yes.
func agreed(std streams, question string) error {
	in, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("nobody can be asked here; say --yes to have it done, or --dry-run to see what that would be")
	}
	fmt.Fprintf(std.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return fmt.Errorf("not agreed to; nothing is removed")
}
