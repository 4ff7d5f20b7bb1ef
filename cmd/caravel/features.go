package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/feature"
)

// featureOptions say what of each entry counts.
type featureOptions struct {
	with    features
	without features
}

// features is what --with or --without named.
type features struct {
	flags feature.Flags
	given bool
	help  bool // its value was "help"
}

// withFlags are --with and --without; verb says what they decide.
func withFlags(opt *featureOptions, verb string) []cli.Flag {
	return []cli.Flag{
		&cli.GenericFlag{Name: "with", Usage: verb + " `FEATURE`, or a group of them; may be repeated; help lists them", Value: &opt.with},
		&cli.GenericFlag{Name: "without", Usage: "do not " + verb + " `FEATURE`; may be repeated", Value: &opt.without},
	}
}

func (f *features) Set(name string) error {
	switch name {
	case again:
		return nil
	case "help":
		f.help = true
		return nil
	}
	flags, err := feature.Parse(name)
	if err != nil {
		return err
	}
	f.flags |= flags
	f.given = true
	return nil
}

func (*features) String() string    { return "" }
func (*features) Serialize() string { return again }

// wantsHelp reports whether the features shall be listed, and nothing else be
// done.
func (o featureOptions) wantsHelp() bool { return o.with.help || o.without.help }

func printFeatures(w io.Writer) error {
	_, err := fmt.Fprintln(w, strings.Join(feature.Names(), "\n"))
	return err
}

// of is what was asked for, or usual if nothing was, without what was not.
func (o featureOptions) of(usual feature.Flags) feature.Flags {
	f := usual
	if o.with.given {
		f = o.with.flags
	}
	return f &^ o.without.flags
}

// packOptions say how a folder becomes an archive. They count wherever one is
// read as if it were one.
type packOptions struct {
	features  featureOptions
	digest    chunker.Digest
	noDump    bool // leave out what has chattr's +d
	submounts bool // leave out other mounts
	files     bool // honour .caexclude
}

// packFlags are for the commands that read a folder.
func packFlags(opt *packOptions) []cli.Flag {
	opt.noDump, opt.files = true, true
	return append(withFlags(&opt.features, "keep"),
		newSwitch("exclude-nodump", "leave out files with chattr's +d", &opt.noDump),
		newSwitch("exclude-submounts", "leave out what is mounted below", &opt.submounts),
		newSwitch("exclude-file", "leave out what .caexclude files name", &opt.files),
		&cli.GenericFlag{Name: "digest", Usage: "digest by `ALGORITHM`: sha512-256 or sha256; what is packed already names its own", Value: digestValue(&opt.digest)},
	)
}

// archive is the field of flags in an archive made so.
func (o packOptions) archive() feature.Flags { return o.making(o.features.of(feature.All)) }

// blob is that in the index of a blob.
func (o packOptions) blob() feature.Flags { return o.making(o.features.of(0)) }

func (o packOptions) making(f feature.Flags) feature.Flags {
	f |= feature.Of(o.digest)
	for _, rule := range []struct {
		on   bool
		flag feature.Flags
	}{
		{o.noDump, feature.ExcludeNoDump},
		{o.submounts, feature.ExcludeSubmounts},
		{o.files, feature.ExcludeFile},
	} {
		if rule.on {
			f |= rule.flag
		}
	}
	return f.Normal()
}
