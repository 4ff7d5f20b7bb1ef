package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/internal/redact"
	"caravel/server"
	"caravel/store"
	"caravel/store/open"
)

type chunkServerOptions struct {
	web          webOptions
	source       sourceOptions
	digest       chunker.Digest
	writable     bool
	uncompressed bool
	crypt        encryptionOptions // of clients' chunks
	encrypted    string            // the name of their key, which is not known; "": none
	trustStores  bool
	trustClients bool
	noSync       bool
	log          logOptions
}

func chunkServerCommand() *cli.Command {
	var opt chunkServerOptions
	return &cli.Command{
		Name:     "chunk-server",
		Category: serving,
		Usage:    "serve the chunks of stores over HTTP",
		Description: `Serves each chunk as /abcd/abcd….cacnk, or with -u as /abcd/abcd… and uncompressed,
whatever the stores have. Several stores are asked in their order, and the next one
where a chunk is missing or damaged. With --cache what had to be fetched is kept, for
good: many clients that want a chunk at a time cause one request to the stores behind.
Prints "Serving: URL" when clients can connect, and stays until SIGINT or SIGTERM;
then it answers what was asked. /healthz and /metrics (for Prometheus) are there, too.

What lies in a folder in the form that is asked for is sent as it lies: whoever reads it
compares it with its name anyway. --skip-verify-read=no has the server do so, too.
With --encryption clients get, and bring, chunks in encrypted form. How those in a store
are is not said by that, but by its entry in the configuration; those that lie in a
folder, encrypted with the same key, are sent as they lie. With --encrypted-with the
server has no key, and passes on what lies in folders.

With --writable chunks are taken, if they are what they are called, into the one store
that is named; a client has its answer when the chunk is on disk.

` + examples(
			"caravel chunk-server --store /srv/images/default.castr --listen :8080",
			"caravel chunk-server --store https://far.example.com/default.castr --cache /var/cache/near.castr",
			"DESYNC_HTTP_AUTH='Bearer s3cret' caravel chunk-server --store /srv/new.castr --writable --cert cert.pem --key key.pem",
			"caravel chunk-server --store /srv/new.castr --writable --users /etc/caravel/users",
			"caravel chunk-server --store /srv/secret.castr --encrypted-with xchacha20-poly1305-630dcd29",
		),
		Flags: slices.Concat(chunkServerFlags(&opt), webFlags(&opt.web, ":http"), reachFlags(&opt.source.reach), clientEncryptionFlags(&opt.crypt), longLogFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return usagef("want no arguments, not %d; stores go with --store", c.NArg())
			}
			if err := refuseEmpty(c, append(webNames(), "cache", "encrypted-with")...); err != nil {
				return err
			}
			return chunkServer(c.Context, streamsOf(c), opt)
		},
	}
}

func chunkServerFlags(opt *chunkServerOptions) []cli.Flag {
	opt.source.timeout, opt.trustStores = 60*time.Second, true
	skipRead := newSwitch("skip-verify-read", "send what lies in a folder without comparing it with its name", &opt.trustStores)
	return []cli.Flag{
		newList("store", "serve the chunks of `STORE`, a path or URL; may be repeated", &opt.source.stores, "s"),
		&cli.StringFlag{Name: "cache", Aliases: []string{"c"}, Usage: "keep what is fetched in `STORE`, for good, and look there first", Destination: &opt.source.cache},
		storeFileFlag(&opt.source),
		newSwitch("writable", "take chunks, too", &opt.writable, "w", "writeable"),
		newSwitch("uncompressed", "serve, and take, uncompressed chunks", &opt.uncompressed, "u"),
		&cli.StringFlag{Name: "encrypted-with", Usage: "serve, and take, as they are the chunks that are encrypted with the key `NAME`, as behind the last dot of their files' names: no key is needed", Destination: &opt.encrypted},
		skipRead,
		newSwitch("skip-verify-write", "take chunks without comparing them with their names", &opt.trustClients),
		newSwitch("no-sync", "answer before a chunk is on disk", &opt.noSync),
		&cli.GenericFlag{Name: "digest", Usage: "the `ALGORITHM` behind the names", Value: digestValue(&opt.digest)},
		&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "ask a store for at most `N` chunks at once", Value: workersValue(&opt.source.workers)},
		&cli.GenericFlag{Name: "timeout", Usage: "give up a fetch with all its retries after `TIME`; 0: never", Value: durationValue(&opt.source.timeout)},
	}
}

// form is how clients know chunks.
func (o chunkServerOptions) form(ctx context.Context, std streams, logger *slog.Logger) (f store.Form, err error) {
	if o.uncompressed {
		f.Compression = store.None
	}
	if o.encrypted == "" {
		return o.crypt.form(ctx, f, std.err, logger)
	}
	f.Key, err = store.NamedKey(o.encrypted)
	return f, err
}

func (o chunkServerOptions) check() error {
	switch {
	case len(o.source.stores) == 0 && o.source.storeFile == "":
		return usagef("name a --store to serve")
	case o.writable && (len(o.source.stores) > 1 || o.source.cache != ""):
		return usagef("--writable is for one --store, without a --cache")
	case o.trustClients && !o.writable:
		return usagef("--skip-verify-write is for --writable")
	case o.encrypted != "":
		return o.checkEncrypted()
	}
	return nil
}

// checkEncrypted refuses what cannot be done without the key.
func (o chunkServerOptions) checkEncrypted() error {
	switch {
	case o.crypt.said():
		return usagef("--encrypted-with is for who has no key: leave out --encryption and the key")
	case !o.trustStores:
		return usagef("--skip-verify-read=no needs the key, as it is with --encryption")
	case o.writable && !o.trustClients:
		return usagef("--encrypted-with --writable needs --skip-verify-write: without the key, nobody can tell what a chunk is")
	case o.source.storeFile != "" || o.source.cache != "":
		return usagef("--encrypted-with is for a --store, without a --cache or --store-file")
	}
	for _, s := range o.source.stores {
		if open.Path(s) == "" {
			return usagef("--encrypted-with is for folders, not for %s", redact.URL(s))
		}
	}
	return nil
}

func chunkServer(ctx context.Context, std streams, opt chunkServerOptions) (err error) {
	if err := opt.check(); err != nil {
		return err
	}
	logger := opt.log.logger(std.log)
	from, err := newOpener(std, opt.source, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	form, err := opt.form(ctx, std, logger)
	if err != nil {
		return err
	}
	if opt.encrypted != "" {
		from.where.Form = form // files are taken for what they are called
	}
	set := server.ChunkOptions{
		Form:    form,
		Digest:  opt.digest,
		Trust:   opt.trustClients,
		NoSync:  opt.noSync,
		Private: opt.web.private(),
		Log:     logger,
	}
	passed, err := from.passOn(opt.writable)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, passed.Close()) }()
	if opt.writable {
		set.Writer = passed.writer
	}
	if opt.trustStores {
		set.Files = []server.Files{passed.near}
	}
	defer from.reloads()()
	w, err := opt.web.server(std, server.NewChunks(passed, set), logger, from.gauges)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return w.serve(ctx, opt.writable)
}
