package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/prefetch"
	"caravel/store/local"
	"caravel/store/open"
)

type profileOptions struct {
	source sourceOptions
	log    logOptions
	json   bool
	index  string // show: what it is compared with; "": nothing
	out    string // merge: where to
}

func profileCommand() *cli.Command {
	var opt profileOptions
	return &cli.Command{
		Name:      "profile",
		Category:  lazily,
		Usage:     "show or merge what --record has written",
		ArgsUsage: "show FILE | merge -o OUT FILE...",
		Description: `A profile says which chunks of an image a run has read, in their order; a later
run with --profile has them fetched before they are asked for.

profile show prints what a profile covers, and with --index how much of that is
in an image, which may be a later version of the one it was recorded with. No
chunk is fetched.
profile merge writes to OUT ("-" for standard output) what the first FILE has,
and then what each of the others adds. OUT belongs to the index of the first
FILE; what was recorded with other indexes is told by its chunks' IDs.
FILE and INDEX are paths, URLs, or "-" for standard input; OUT may be the URL of a
server that takes files.

` + examples(
			"caravel profile show disk.caibx.profile",
			"# how much of an old profile is of use with the new image",
			"caravel profile show --index=http://host/disk-2.caibx disk-1.caibx.profile",
			"# one for the boot, and for the first start of the browser",
			"caravel profile merge -o disk.caibx.profile boot.profile browser.profile",
		),
		Flags: slices.Concat([]cli.Flag{
			jsonFlag(&opt.json),
			&cli.StringFlag{Name: "index", Usage: "show: compare with the image of `INDEX`", Destination: &opt.index},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "merge: write `OUT`", Destination: &opt.out},
		}, indexFlags(&opt.source), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usagef("want show or merge")
			}
			switch action, files := c.Args().First(), c.Args().Tail(); action {
			case "show":
				return profileShow(c.Context, streamsOf(c), files, opt)
			case "merge":
				return profileMerge(c.Context, streamsOf(c), files, opt)
			default:
				return usagef("want show or merge, not %q", action)
			}
		},
	}
}

// profile reads a profile from a path, URL, or "-".
func (o *opener) profile(ctx context.Context, location string) (*prefetch.Profile, error) {
	r, _, err := open.Reader(ctx, location, o.where)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := prefetch.ReadProfile(r)
	if err != nil {
		return nil, within(location, err)
	}
	return p, nil
}

func profileMerge(ctx context.Context, std streams, files []string, opt profileOptions) error {
	switch {
	case opt.json || opt.index != "":
		return usagef("--json and --index go with show")
	case opt.out == "":
		return usagef("merge needs -o OUT")
	case len(files) == 0:
		return usagef("merge wants one FILE or more")
	}
	if opt.out != "-" {
		if err := canPutAt(opt.out); err != nil {
			return err
		}
	}
	from, err := newOpener(std, opt.source, opt.log.logger(std.err))
	if err != nil {
		return err
	}
	defer from.Close()
	var all []*prefetch.Profile
	for _, file := range files {
		p, err := from.profile(ctx, file)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	merged := all[0]
	merged.Merge(all[1:]...)
	if opt.out == "-" {
		_, err := merged.WriteTo(std.out)
		return err
	}
	var b bytes.Buffer
	if _, err := merged.WriteTo(&b); err != nil {
		return fmt.Errorf("%s: %w", opt.out, err)
	}
	return putAt(ctx, opt.out, b.Bytes(), local.Options{Sync: true}, from.where)
}
