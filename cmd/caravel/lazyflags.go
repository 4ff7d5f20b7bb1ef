package main

import (
	"slices"
	"time"

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
	corSave     string // "": nowhere; see corFlags
	corInit     string // "": nothing
	stats       bool
	statsFile   string // "": none
	log         logOptions

	wait time.Duration // what a read may wait for in all; 0: a --timeout for each thing that it waits for
}

// lazyFlags are for the commands that show images without downloading them.
func lazyFlags(opt *lazyOptions) []cli.Flag {
	return append(quietLazyFlags(opt), logFlags(&opt.log)...)
}

// lazyServerFlags are for those of which -l is the address.
func lazyServerFlags(opt *lazyOptions) []cli.Flag {
	return append(quietLazyFlags(opt), longLogFlags(&opt.log)...)
}

// quietLazyFlags are without those of the log.
func quietLazyFlags(opt *lazyOptions) []cli.Flag {
	opt.profile = profileAuto
	return slices.Concat([]cli.Flag{
		newSwitch("no-sweep", "do not fetch in the background the rest of the image, nor the names of a tree; those, attributes and links are believed of a sidecar then, until a file is opened", &opt.noSweep),
		&cli.GenericFlag{Name: "sweep-rate", Usage: "fetch at most `SIZE` bytes of the image a second in the background; a tree's files that are materialised come as the link carries", DefaultText: "what the link carries", Value: sizeValue(&opt.sweepRate)},
		newSwitch("metered", "bytes cost money: as --no-sweep, with little read-ahead", &opt.metered),
		&cli.StringFlag{Name: "record", Usage: "write what is touched, in its order, to the profile `FILE`, a path or URL", Destination: &opt.record},
		&cli.StringFlag{Name: "profile", Usage: "fetch at first what the profile `FILE` says; auto: the one beside the index; none: nothing", Value: profileAuto, DefaultText: profileAuto, Destination: &opt.profile},
		&cli.StringFlag{Name: "materialize", Usage: "assemble the disk image in `FILE`; yes: in --cache-dir, of a tree its large files", DefaultText: "no", Destination: &opt.materialize},
		newSwitch("stats", "print at the end what was done; SIGUSR1 does so at once", &opt.stats),
		&cli.StringFlag{Name: "stats-file", Usage: "write that as JSON to `FILE`", Destination: &opt.statsFile},
		storeFileFlag(&opt.source),
	}, sourceFlags(&opt.source))
}

// profileFile is the profile that the user named; "": none.
func (o lazyOptions) profileFile() string {
	if o.profile == profileAuto || o.profile == profileNone {
		return ""
	}
	return o.profile
}

// ofOneImage is a flag that was given and takes a single image, "" if there is none.
func (o lazyOptions) ofOneImage() string {
	switch {
	case o.record != "":
		return "--record"
	case o.profileFile() != "":
		return "--profile=" + o.profile
	case o.toFile():
		return "--materialize=" + o.materialize
	}
	return ""
}

// needsNoIndex refuses what cannot be had of an image without an index.
func (o lazyOptions) needsNoIndex(location string) error {
	if flag := o.ofOneImage(); flag != "" {
		return usagef("%s: has no index, which %s takes", location, flag)
	}
	if o.source.pin != nil {
		return unpinnable(location)
	}
	return nil
}
