package main

import (
	"slices"

	"github.com/urfave/cli/v2"
)

// The values of --profile that are no files.
const (
	profileAuto = "auto" // the one beside the index
	profileNone = "none"
)

// lazyOptions are those of the commands that show an image before it is there.
type lazyOptions struct {
	source      sourceOptions
	noSweep     bool
	sweepRate   int64 // bytes of the image a second; 0: as the link carries
	metered     bool
	record      string // "": nowhere
	profile     string
	materialize string // a file, yes or no; "": not said
	stats       bool
	statsFile   string // "": none
	log         logOptions
}

// lazyFlags are for the commands that show images without downloading them.
func lazyFlags(opt *lazyOptions) []cli.Flag {
	opt.profile = profileAuto
	return slices.Concat([]cli.Flag{
		newSwitch("no-sweep", "do not fetch in the background the rest of the image, nor the names of a tree; those, attributes and links are believed of a sidecar then, until a file is opened", &opt.noSweep),
		&cli.GenericFlag{Name: "sweep-rate", Usage: "fetch at most `SIZE` bytes of the image a second in the background; a tree's files that are materialised come as the link carries", DefaultText: "what the link carries", Value: sizeValue(&opt.sweepRate)},
		newSwitch("metered", "bytes cost money: as --no-sweep, with little read-ahead", &opt.metered),
		&cli.StringFlag{Name: "record", Usage: "write what is touched, in its order, to the profile `FILE`", Destination: &opt.record},
		&cli.StringFlag{Name: "profile", Usage: "fetch at first what the profile `FILE` says; auto: the one beside the index; none: nothing", Value: profileAuto, DefaultText: profileAuto, Destination: &opt.profile},
		&cli.StringFlag{Name: "materialize", Usage: "assemble the disk image in `FILE`; yes: in --cache-dir, of a tree its large files", DefaultText: "no", Destination: &opt.materialize},
		newSwitch("stats", "print at the end what was done; SIGUSR1 does so at once", &opt.stats),
		&cli.StringFlag{Name: "stats-file", Usage: "write that as JSON to `FILE`", Destination: &opt.statsFile},
	}, sourceFlags(&opt.source), logFlags(&opt.log))
}

// profileFile is the profile that the user named; "": none.
func (o lazyOptions) profileFile() string {
	if o.profile == profileAuto || o.profile == profileNone {
		return ""
	}
	return o.profile
}

// ofOneImage reports whether something was asked for that takes a single image.
func (o lazyOptions) ofOneImage() bool {
	return o.record != "" || o.profileFile() != "" || o.toFile()
}

// needsNoIndex refuses what cannot be had of an image without an index.
func (o lazyOptions) needsNoIndex(location string) error {
	switch {
	case o.ofOneImage():
		return usagef("%s: has no index, which --record, --profile and --materialize take", location)
	case o.source.pin != nil:
		return unpinnable(location)
	}
	return nil
}
