package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"caravel/store"
)

// compressionFlag is for commands that put chunks into a store.
func compressionFlag(to *store.Form) cli.Flag {
	return &cli.GenericFlag{
		Name:  "compression",
		Usage: "pack chunks by `HOW`: zstd, xz, gzip, each with :LEVEL if wanted, or none",
		Value: compressionValue(to),
	}
}

// writeTimeoutFlag is for commands that write to a place which may be behind a network, and
// read from none.
func writeTimeoutFlag(to *time.Duration) cli.Flag {
	return &cli.GenericFlag{
		Name:  "timeout",
		Usage: "give up what a server does not take, with all retries, after `TIME`; 0: never",
		Value: durationValue(to),
	}
}

// makeWorkersFlag is for commands that cut and store; see maker.atOnce.
func makeWorkersFlag(to *int) cli.Flag {
	return &cli.GenericFlag{
		Name:        "concurrency",
		Aliases:     []string{"n"},
		Usage:       "work on `N` chunks at once",
		DefaultText: "one a core, or 64 into a store behind a network",
		Value:       workersValue(to),
	}
}
