package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/config"
	"caravel/server"
	"caravel/store/open"
)

type indexServerOptions struct {
	web      webOptions
	source   sourceOptions // of which one store is the folder
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
			newList("store", "serve the indexes in `FOLDER`, a path or URL", &opt.source.stores, "s"),
			storeFileFlag(&opt.source),
			newSwitch("writable", "take indexes, too", &opt.writable, "w", "writeable"),
			newSwitch("no-sync", "answer before an index is on disk", &opt.noSync),
			&cli.GenericFlag{Name: "digest", Usage: "take only indexes of this `ALGORITHM`", DefaultText: "any", Value: digestValue(&digest)},
		}, webFlags(&opt.web, ":http"), reachFlags(&opt.source.reach), ignoredWorkers(), longLogFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return usagef("want no arguments, not %d; the folder goes with --store", c.NArg())
			}
			if err := refuseEmpty(c, webNames()...); err != nil {
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
	if len(opt.source.stores) == 0 && opt.source.storeFile == "" {
		return usagef("name a --store to serve")
	}
	logger := opt.log.logger(std.log)
	from, err := newOpener(std, opt.source, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	served := &servedIndexes{opener: from, opt: server.IndexOptions{
		Writable: opt.writable,
		Digest:   opt.digest,
		NoSync:   opt.noSync,
		Private:  opt.web.private(),
		Log:      logger,
	}}
	h, err := served.open(from.opt.stores, from.opt.cache)
	if err != nil {
		return err
	}
	served.now.Store(&h)
	w, err := opt.web.server(std, served, logger, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if opt.source.storeFile != "" {
		defer onReload(served.reload)()
	}
	return w.serve(ctx, opt.writable)
}

// servedIndexes serve a folder until another one takes its place. What is asked for
// then is answered from the former to its end.
type servedIndexes struct {
	opener *opener
	opt    server.IndexOptions
	now    atomic.Pointer[http.Handler]
}

func (s *servedIndexes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.now.Load()).ServeHTTP(w, r)
}

func (s *servedIndexes) open(folders []string, cache string) (http.Handler, error) {
	if len(folders) != 1 || cache != "" {
		return nil, usagef("indexes are served from one --store, without a cache")
	}
	// Indexes are no chunks: they lie in their folder as any file does.
	blobs, _, err := open.Object(strings.TrimRight(folders[0], "/")+"/index", s.opener.where)
	if err != nil {
		return nil, err
	}
	return server.NewIndexes(blobs, s.opt)
}

// reload serves the folder that the store file names now.
func (s *servedIndexes) reload() {
	f, err := config.LoadStoreFile(s.opener.opt.storeFile)
	var h http.Handler
	if err == nil {
		h, err = s.open(f.Stores, f.Cache)
	}
	s.opener.reloaded(err)
	if err == nil {
		s.now.Store(&h)
	}
}
