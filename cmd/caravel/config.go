package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/config"
	"caravel/store/local"
)

type configOptions struct {
	file    string // as in reachOptions
	write   bool
	secrets bool
	json    bool
}

func configCommand() *cli.Command {
	var opt configOptions
	return &cli.Command{
		Name:      "config",
		Category:  self,
		Usage:     "show or write how stores are reached",
		ArgsUsage: "[LOCATION]",
		Description: `Prints the configuration as JSON, and on standard error where it was read from: the
file of --config, else $XDG_CONFIG_HOME/caravel/config.json (~/.config), else desync's,
~/.config/desync/config.json. Of a LOCATION it prints what counts there. Secrets are
not shown without --show-secrets. With --write it is written, secrets and all, readable
for its owner alone, to the file of --config or to the usual one: from there it can be
edited. Keys are desync's, and token-file, headers, stall-timeout, host-requests,
rate-limit-bps, rate-limit-up-bps and rate-limit-down-bps.

` + examples(
			"caravel config",
			"# what counts for a store",
			"caravel config https://example.com/default.castr",
			"# take over desync's",
			"caravel config --write",
		),
		Flags: slices.Concat([]cli.Flag{
			configFlag(&opt.file),
			newSwitch("write", "write the configuration to the file", &opt.write, "w"),
			newSwitch("show-secrets", "show passwords, keys, tokens and headers, too", &opt.secrets),
			jsonFlag(&opt.json),
		}, impliedFlags(), hidden(logFlags(new(logOptions)))),
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() > 1:
				return usagef("want one LOCATION or none, not %d", c.NArg())
			case opt.write && c.NArg() > 0:
				return usagef("--write writes all of the configuration: leave out LOCATION")
			case opt.write && opt.file == config.None:
				return usagef("--write: --config=none is no file")
			case opt.write:
				return writeConfig(c.Context, streamsOf(c), opt)
			case c.NArg() == 1:
				return showLocation(streamsOf(c), c.Args().First(), opt)
			}
			return showConfig(streamsOf(c), opt)
		},
	}
}

// A configReport is what --json prints.
type configReport struct {
	File   string        `json:"file"` // "": there is none
	Config config.Config `json:"config"`
}

func showConfig(std streams, opt configOptions) error {
	c, err := config.Load(opt.file)
	if err != nil {
		return err
	}
	shown := c
	if !opt.secrets {
		shown = c.Hide()
	}
	if opt.json {
		return json.NewEncoder(std.out).Encode(configReport{c.File, shown})
	}
	if c.File == "" {
		fmt.Fprintln(std.err, "There is no configuration.")
	} else {
		fmt.Fprintln(std.err, "Read from: "+c.File)
	}
	_, err = shown.WriteTo(std.out)
	return err
}

// A locationReport is what counts for one location.
type locationReport struct {
	config.Settings
	S3  *config.S3Credentials  `json:"s3-credentials,omitempty"`
	OCI *config.OCICredentials `json:"oci-credentials,omitempty"`
}

func showLocation(std streams, location string, opt configOptions) error {
	c, err := config.Load(opt.file)
	if err != nil {
		return err
	}
	s, err := c.ForFile(location)
	if err != nil {
		return err
	}
	if !opt.secrets {
		s = s.Hide()
	}
	e := json.NewEncoder(std.out)
	e.SetEscapeHTML(false)
	if !opt.json {
		e.SetIndent("", "  ")
	}
	return e.Encode(locationReport{s, s.S3, s.OCI})
}

// writeConfig writes what is read without one of ours to be edited from now on, or, of
// one of ours, the same in its usual order.
func writeConfig(ctx context.Context, std streams, opt configOptions) error {
	to := opt.file
	if to == "" {
		place, err := config.Place()
		if err != nil {
			return err
		}
		to = place
	}
	from := opt.file
	if _, err := os.Stat(from); os.IsNotExist(err) {
		from = "" // it is about to be
	}
	c, err := config.Load(from)
	if err != nil {
		return err
	}
	var content bytes.Buffer
	if _, err := c.WriteTo(&content); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if err := putFile(ctx, to, &content, local.Options{Mode: 0o600, Sync: true}); err != nil {
		return err
	}
	if opt.json {
		return json.NewEncoder(std.out).Encode(struct {
			File string `json:"file"`
		}{to})
	}
	_, err = fmt.Fprintln(std.out, "Written: "+to)
	return err
}
