package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/feature"
	"caravel/store"
)

func tarCommand() *cli.Command {
	opt := makeOptions{params: chunker.DefaultParams(), form: store.Form{Either: true}, timeout: 60 * time.Second}
	var index, noTime, addRoot bool
	storeFlag := newList("store", "with -i, put chunks into `STORE` (default: the one beside ARCHIVE)", &opt.stores, "s")
	storeFlag.EnvVars = []string{"CASYNC_STORE"}
	return &cli.Command{
		Name:      "tar",
		Category:  images,
		Usage:     "pack a directory or a tar stream, as desync tar does",
		ArgsUsage: "ARCHIVE FROM",
		Description: `Packs FROM into ARCHIVE, a .catar whatever its name ("-": standard output), or with -i
the index of one, whose chunks go into the store. FROM is a directory, or a tar stream
("-": standard input), which may be packed and in any order; a directory that it does not
mention has the mode 0755 and belongs to root. Unlike desync, FIFOs, sockets, lists,
owners' names and all else that caravel make keeps are kept, and what of a tar stream
cannot be is listed: then nothing is made, unless with --best-effort. caravel make does
the same with names that tell what is made.

` + examples(
			"caravel tar tree.catar /srv/tree",
			"caravel tar -i -s /srv/default.castr tree.caidx /srv/tree",
			"docker export box | caravel tar -i -s /srv/default.castr --input-format=tar box.caidx -",
		),
		Flags: slices.Concat([]cli.Flag{
			newSwitch("index", "cut the archive, and write the index of its chunks", &index, "i"),
			storeFlag,
			&cli.GenericFlag{Name: "input-format", Usage: "FROM is `WHAT`: disk, a directory, or tar", DefaultText: "what it is", Value: inputValue(&opt.input)},
			newSwitch("no-time", "keep no times", &noTime),
			newSwitch("one-file-system", "leave out what is mounted below FROM", &opt.pack.submounts, "x"),
			newSwitch("tar-add-root", "give a tar stream a root of its own if it has none, as is always done", &addRoot),
			bestEffortFlag(&opt.bestEffort),
			newSwitch("no-tree", "write no sidecar beside the index", &opt.noTree),
			compressionFlag(&opt.form),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			makeWorkersFlag(&opt.workers),
			writeTimeoutFlag(&opt.timeout),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, encryptionFlags(&opt.crypt), packFlags(&opt.pack), chunkSizeFlags(&opt.params), reachFlags(&opt.reach), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			switch {
			case opt.pack.features.wantsHelp():
				return printFeatures(c.App.Writer)
			case c.NArg() != 2:
				return usagef("want ARCHIVE and what to pack, not %d arguments", c.NArg())
			}
			opt.formSaid = c.IsSet("compression")
			if opt.what = archiveKind; index {
				opt.what = archiveIndex
			}
			if noTime {
				opt.pack.features.without.flags |= feature.Times
			}
			out, in := c.Args().Get(0), c.Args().Get(1)
			if st, err := os.Stat(in); opt.input == diskInput && (err != nil || !st.IsDir()) {
				return fmt.Errorf("%s: is no directory", in)
			} else if opt.input == tarInput && err == nil && st.IsDir() {
				return fmt.Errorf("%s: is a directory, no tar stream", in)
			}
			k, in, err := opt.kindOf(out, in, false, false)
			if err != nil {
				return err
			}
			m := &maker{makeOptions: opt, std: streamsOf(c), kind: k, out: out, in: in, treeSaid: c.IsSet("no-tree")}
			return m.run(c.Context)
		},
	}
}

// inputValue is the value of --input-format.
func inputValue(to *string) cli.Generic {
	parse := func(s string) (string, error) {
		if s != diskInput && s != tarInput {
			return "", errors.New("want disk or tar")
		}
		return s, nil
	}
	return &value[string]{to, parse, func(s string) string { return s }}
}
