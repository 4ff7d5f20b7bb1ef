package main

import (
	"log/slog"

	"github.com/urfave/cli/v2"

	"caravel/index"
	"caravel/seed"
)

// seedOptions say what on this machine may hold chunks of an image.
type seedOptions struct {
	named   []string // see seed.Set.AddNamed
	folders []string // of indexes with their data beside them
	output  bool     // what the target holds is one, too
	reflink bool     // share the blocks of seeds where the file system can
	skip    bool     // desync's --skip-invalid-seeds, which is what is done anyway
	reread  bool     // desync's --regenerate-invalid-seeds
}

// seedFlags are for commands that write a whole image.
func seedFlags(opt *seedOptions) []cli.Flag {
	opt.output, opt.reflink = true, true
	skip := newSwitch("skip-invalid-seeds", "fetch what a seed lacks of what its index says; so it is done anyway", &opt.skip)
	skip.Hidden = true
	return []cli.Flag{
		newList("seed", "take chunks from `PATH`, a file, device or directory, or a .caibx or .caidx with its data beside it or behind a colon; may be repeated", &opt.named),
		newList("seed-dir", "take chunks from what has a .caibx beside it anywhere in `DIR`; may be repeated", &opt.folders),
		newSwitch("seed-output", "take chunks from what TO holds", &opt.output),
		newSwitch("reflink", "share blocks with seeds where the file system can (btrfs, xfs)", &opt.reflink),
		skip,
		newSwitch("regenerate-invalid-seeds", "read seeds rather than believe their indexes", &opt.reread),
	}
}

// check refuses what desync refuses.
func (o seedOptions) check() error {
	if o.skip && o.reread {
		return usagef("--skip-invalid-seeds and --regenerate-invalid-seeds exclude one another")
	}
	return nil
}

// seeds opens the seeds that the user named for the image x, which was read from the location
// own. As in casync, one that cannot be used is a warning.
func (o seedOptions) seeds(x *index.Index, own string, log *slog.Logger) *seed.Set {
	s := seed.New(x, seed.Options{Reread: o.reread, Log: log})
	warn := func(name string, err error) {
		if err != nil {
			log.Warn("seed cannot be used", "seed", name, "err", err)
		}
	}
	for _, name := range o.named {
		warn(name, s.AddNamed(name))
	}
	for _, dir := range o.folders {
		warn(dir, s.AddAll(dir, pathOf(own)))
	}
	return s
}
