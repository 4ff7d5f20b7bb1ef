package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/catalog"
	"caravel/chunker"
	"caravel/internal/progress"
)

// explainFlag makes a usageError of what urfave/cli and package flag say about
// a value, with the flag's name as it is typed.
func explainFlag(_ *cli.Context, err error, _ bool) error {
	text := strings.Replace(err.Error(), "invalid boolean value", "invalid value", 1)
	for _, mark := range []string{" for flag -", " for -"} {
		if what, rest, ok := strings.Cut(text, mark); ok {
			name, why, _ := strings.Cut(rest, ": ")
			return usagef("%s for %s: %s", what, dashed(name), why)
		}
	}
	return usagef("%s", text)
}

func jsonFlag(to *bool) cli.Flag { return newSwitch("json", "print JSON", to) }

// logOptions say what goes to the log.
type logOptions struct {
	level   slog.Level
	verbose bool
}

// logFlags are for the commands of which -l is the log level.
func logFlags(opt *logOptions) []cli.Flag { return logFlagsNamed(opt, "l") }

// longLogFlags are for the commands of which -l is something else.
func longLogFlags(opt *logOptions) []cli.Flag { return logFlagsNamed(opt) }

func logFlagsNamed(opt *logOptions, aliases ...string) []cli.Flag {
	verbose := newSwitch("verbose", "say more about what is done", &opt.verbose, "v")
	verbose.EnvVars = []string{"CASYNC_VERBOSE"}
	return []cli.Flag{
		&cli.GenericFlag{
			Name:    "log-level",
			Aliases: aliases,
			Usage:   "log from `LEVEL` up: err, warning, info, debug, or 0 to 7",
			EnvVars: []string{"CASYNC_LOG_LEVEL"},
			Value:   logLevelValue(&opt.level),
		},
		verbose,
	}
}

// logger writes to w, which is a Progress where one is shown.
func (o logOptions) logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: o.level}))
}

// progressFlag lets the user choose how progress is shown. Without it desync's
// two variables count.
func progressFlag(to *progress.Mode) cli.Flag {
	*to = progress.Auto
	switch {
	case os.Getenv("DESYNC_ENABLE_PARSABLE_PROGRESS") != "":
		*to = progress.Parsable
	case os.Getenv("DESYNC_PROGRESSBAR_ENABLED") != "":
		*to = progress.Bar
	}
	return &cli.GenericFlag{
		Name:        "progress",
		Usage:       "show progress as `HOW`: bar, plain, json, none, or auto, a bar on a terminal and else plain",
		DefaultText: "auto",
		Value:       modeValue(to),
	}
}

// sourceOptions say where an image's chunks come from and how they are fetched.
type sourceOptions struct {
	stores      []string // in the order in which they are asked
	extraStores []string // asked after stores
	cache       string   // a store that keeps what was fetched; "": none
	crypt       encryptionOptions
	disk        diskOptions
	pin         *catalog.Pin // the only index that will do; nil: any
	noTree      bool         // leave sidecars alone
	treePin     *catalog.Pin // the only sidecar that will do; nil: any, without a pin of the index
	timeout     time.Duration
	memory      int64 // bytes
	workers     int   // 0: not said
	reach       reachOptions
	storeFile   string // what stores and cache come from; "": from flags
}

// sourceFlags are for commands that read an image.
func sourceFlags(opt *sourceOptions) []cli.Flag {
	opt.memory = 64 << 20
	store := newList("store", "read chunks from `STORE`, a path or URL; may be repeated", &opt.stores, "s")
	store.EnvVars = []string{"CASYNC_STORE"}
	return slices.Concat([]cli.Flag{
		store,
		newList("extra-store", "ask `STORE` after those of --store; may be repeated", &opt.extraStores),
		&cli.StringFlag{
			Name:        "cache",
			Aliases:     []string{"c"},
			Usage:       "keep what is fetched in `STORE`, for good, and look there first; a chunk's time says, to the hour, when it was last read there",
			Destination: &opt.cache,
		},
		&cli.GenericFlag{
			Name:  "memory",
			Usage: "keep up to `SIZE` bytes of chunks in memory",
			Value: sizeValue(&opt.memory),
		},
		&cli.GenericFlag{
			Name:    "concurrency",
			Aliases: []string{"n"},
			Usage:   "do `N` things at once",
			Value:   workersValue(&opt.workers),
		},
	}, encryptionFlags(&opt.crypt), indexFlags(opt))
}

// indexFlags are for commands that need of an image no more than its index.
func indexFlags(opt *sourceOptions) []cli.Flag {
	opt.timeout = 60 * time.Second
	return slices.Concat(diskFlags(&opt.disk), reachFlags(&opt.reach), []cli.Flag{
		&cli.GenericFlag{
			Name:  "index-digest",
			Usage: "read no index but the one whose SHA-512/256 is `HEX`; sha256:HEX for SHA-256",
			Value: pinValue(&opt.pin),
		},
		&cli.GenericFlag{
			Name:  "timeout",
			Usage: "give up a fetch with all its retries after `TIME`; 0: never",
			Value: durationValue(&opt.timeout),
		},
	})
}

// treeFlags are for commands that read a tree behind an index.
func treeFlags(opt *sourceOptions) []cli.Flag {
	return []cli.Flag{
		newSwitch("no-tree", "do without the sidecar, which tells names and attributes, beside the index", &opt.noTree),
		&cli.GenericFlag{
			Name:  "tree-digest",
			Usage: "take no sidecar but the one whose SHA-512/256 is `HEX`; with --index-digest, none without this",
			Value: pinValue(&opt.treePin),
		},
	}
}

// impliedFlags are what casync and desync may be told about an index although
// it says so itself. They are read and change nothing.
func impliedFlags() []cli.Flag {
	kind := func(s string) (string, error) {
		if s != string(blobIndex) && s != string(archiveIndex) {
			return "", errors.New("want blob-index or archive-index")
		}
		return s, nil
	}
	show := func(s string) string { return s }
	return []cli.Flag{
		&cli.GenericFlag{Name: "digest", Usage: "the `ALGORITHM` that the index names", Value: digestValue(new(chunker.Digest)), Hidden: true},
		&cli.GenericFlag{Name: "what", Usage: "the `KIND` blob-index or archive-index", Value: &value[string]{new(string), kind, show}, Hidden: true},
	}
}

// ignoredWorkers is a flag that desync has on all its commands, for one of which nothing
// is done more than once.
func ignoredWorkers() []cli.Flag {
	return []cli.Flag{&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Value: workersValue(new(int)), Hidden: true}}
}

// hidden flags are read and not shown.
func hidden(flags []cli.Flag) []cli.Flag {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.GenericFlag:
			f.Hidden = true
		case switchFlag:
			f.Hidden = true
		}
	}
	return flags
}

// allStores are the stores to ask, in order.
func (o sourceOptions) allStores() []string { return slices.Concat(o.stores, o.extraStores) }

// storeCount is how many stores there are to ask, the one beside the index among
// them if no other is named, and each member of a group joined by |.
func (o sourceOptions) storeCount() int {
	n := 0
	if len(o.stores) == 0 {
		n++
	}
	for _, s := range o.allStores() {
		n += 1 + strings.Count(s, "|")
	}
	return n
}

// severalStores reports whether a chunk that one store has not may come from
// another.
func (o sourceOptions) severalStores() bool { return o.storeCount() > 1 }

// storeTimeout is how long one store is asked for a chunk: not so long that
// there is no time left for the others. 0 is for ever.
func (o sourceOptions) storeTimeout() time.Duration {
	if n := o.storeCount(); n > 1 {
		return o.timeout / time.Duration(n+1)
	}
	return o.timeout
}
