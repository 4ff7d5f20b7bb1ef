package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/server"
	"caravel/store/open"
)

type indexServerOptions struct {
	web      webOptions
	store    string
	reach    reachOptions
	writable bool
	noSync   bool
	digest   *chunker.Digest
	log      logOptions
}

func indexServerCommand() *cli.Command {
	var opt indexServerOptions
	var digest chunker.Digest
	return &cli.Command{
		Name:     "index-server",
		Category: serving,
		Usage:    "serve the indexes of a folder over HTTP",
		Description: `Serves the indexes in a folder, or behind a URL, by their names there, and the sidecars
and profiles beside them; nothing else. /a/x.caibx and /b/x.caibx are two indexes.
Prints "Serving: URL" when clients can connect, and stays until SIGINT or SIGTERM;
then it answers what was asked. /healthz and /metrics (for Prometheus) are there, too.

With --writable indexes are taken, each of which is read to its end before it gets its
name, and is on disk before the client has its answer.

` + examples(
			"caravel index-server --store /srv/images --listen :8081",
			"caravel index-server --store /srv/images --writable --users /etc/caravel/users --cert cert.pem --key key.pem",
		),
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "store", Aliases: []string{"s"}, Usage: "serve the indexes in `FOLDER`, a path or URL", Destination: &opt.store},
			newSwitch("writable", "take indexes, too", &opt.writable, "w", "writeable"),
			newSwitch("no-sync", "answer before an index is on disk", &opt.noSync),
			&cli.GenericFlag{Name: "digest", Usage: "take only indexes of this `ALGORITHM`", DefaultText: "any", Value: digestValue(&digest)},
		}, webFlags(&opt.web, ":http"), reachFlags(&opt.reach), longLogFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return usagef("want no arguments, not %d; the folder goes with --store", c.NArg())
			}
			if err := refuseEmpty(c, append(webNames(), "store")...); err != nil {
				return err
			}
			if c.IsSet("digest") {
				opt.digest = &digest
			}
			return indexServer(c.Context, streamsOf(c), opt)
		},
	}
}

func indexServer(ctx context.Context, std streams, opt indexServerOptions) (err error) {
	if opt.store == "" {
		return usagef("name a --store to serve")
	}
	logger := opt.log.logger(std.log)
	from, err := newOpener(std, sourceOptions{reach: opt.reach}, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	// Indexes are no chunks: they lie in their folder as any file does.
	blobs, _, err := open.Object(strings.TrimRight(opt.store, "/")+"/index", from.where)
	if err != nil {
		return err
	}
	h, err := server.NewIndexes(blobs, server.IndexOptions{
		Writable: opt.writable,
		Digest:   opt.digest,
		NoSync:   opt.noSync,
		Private:  opt.web.private(),
		Log:      logger,
	})
	if err != nil {
		return err
	}
	w, err := opt.web.server(std, h, logger, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return w.serve(ctx, opt.writable)
}
