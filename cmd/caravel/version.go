package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

func versionCommand() *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name:     "version",
		Category: self,
		Usage:    "show which caravel this is",
		Description: examples(
			"caravel version",
			"caravel version --json",
		),
		Flags: []cli.Flag{jsonFlag(&asJSON)},
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return usagef("want no arguments, not %d", c.NArg())
			}
			return printVersion(c.App.Writer, thisBuild(), asJSON)
		},
	}
}

// A build is what the Go tools wrote into the binary.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`   // left out if unknown
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes on top of Commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func printVersion(w io.Writer, b build, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(b)
	}
	commit := ""
	if b.Commit != "" {
		commit = ", commit " + b.Commit
	}
	if b.Modified {
		commit += " with changes"
	}
	_, err := fmt.Fprintf(w, "caravel %s (%s, %s%s)\n", b.Version, b.Go, b.Platform, commit)
	return err
}
