package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"caravel/internal/notify"
	"caravel/nbd"
	"caravel/server"
	"caravel/store"
)

type serveOptions struct {
	web  webOptions
	lazy lazyOptions
	also []string
	nbd  string // "": not
}

func serveCommand() *cli.Command {
	var opt serveOptions
	return &cli.Command{
		Name:      "serve",
		Category:  serving,
		Usage:     "serve images, indexes, sidecars, profiles and chunks over HTTP",
		ArgsUsage: "DIR...",
		Description: `Serves what readers of images need of each DIR, by its path there: *.caibx, *.caidx
and what lies beside them, chunks, *.catar, and images (*.img, *.raw, *.iso, *.qcow2,
*.squashfs and the like); with --also other files, too. Names that begin with a dot,
caches, unfinished files and keys are not there. What is in several DIRs is that of the
first. Chunks may be kept for ever, by clients and by any cache between; for all else
they ask whether it has changed. Prints "Serving: URL" when clients can connect, and
stays until SIGINT or SIGTERM; then it answers what was asked. /healthz and /metrics
(for Prometheus) are there, too.

With --store, chunks that no DIR has come from there, each once however many want it,
and with --cache they are kept, for good, which may be in a store of a DIR.

With --nbd the images of the indexes in each DIR are also NBD exports, as those of
caravel nbd-server, whose flags count for them.

Sockets that a service manager passes (LISTEN_FDS) are used instead of --listen, and
one that is named nbd instead of the address of --nbd.

` + examples(
			"caravel serve --listen :8080 /srv/images",
			"caravel serve --listen :8080 --nbd 0.0.0.0:10809 /srv/images",
			"caravel serve --store https://far.example.com/default.castr --cache /srv/near/default.castr /srv/near",
			"caravel serve --listen :443 --cert cert.pem --key key.pem --users /etc/caravel/users /srv/images",
		),
		Flags: slices.Concat([]cli.Flag{
			newList("also", "serve files whose name matches `PATTERN`, too; may be repeated", &opt.also),
			&cli.StringFlag{Name: "nbd", Usage: "serve the images over NBD, too, on `HOST:PORT` or a PORT of localhost; NBD's is " + nbdPort, Destination: &opt.nbd},
		}, webFlags(&opt.web, "localhost:8080"), lazyServerFlags(&opt.lazy)),
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usagef("name a DIR to serve")
			}
			if err := refuseEmpty(c, append(webNames(), "nbd", "cache")...); err != nil {
				return err
			}
			return serve(c.Context, streamsOf(c), c.Args().Slice(), opt)
		},
	}
}

func serve(ctx context.Context, std streams, dirs []string, opt serveOptions) (err error) {
	if err := opt.check(dirs); err != nil {
		return err
	}
	from, err := startLazy(ctx, std, opt.lazy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	set := server.FolderOptions{Also: opt.also, Private: opt.web.private(), Log: from.log}
	if len(from.opener.opt.stores) > 0 { // by --store, or by a file
		passed, err := from.passOn(false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, passed.Close()) }()
		set.Chunks = opt.chunks(passed, from)
	}
	folders, err := server.NewFolders(dirs, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folders.Close()) }()
	disks, shut, err := opt.disks(ctx, from, dirs)
	defer func() { err = errors.Join(err, shut()) }()
	if err != nil {
		return err
	}
	w, err := opt.web.server(std, folders, from.log, from.gauges)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return opt.both(ctx, std, w, disks)
}

// check refuses before anything is opened what could never be.
func (o serveOptions) check(dirs []string) error {
	for _, dir := range dirs {
		if st, err := os.Stat(dir); err != nil {
			return err
		} else if !st.IsDir() {
			return fmt.Errorf("%s: is no folder", dir)
		}
	}
	if o.nbd != "" {
		if _, err := listenAddress(o.nbd); err != nil {
			return err
		}
	}
	if flag := o.lazy.ofOneImage(); flag != "" {
		return usagef("%s is for one image", flag)
	}
	if o.lazy.source.cache != "" && len(o.lazy.source.stores) == 0 {
		return usagef("--cache is for what comes from a --store")
	}
	return nil
}

// chunks serves what comes from stores, in the form that a client's name for it asks
// for.
func (o serveOptions) chunks(passed *passedOn, from *lazyOpener) http.Handler {
	set := server.ChunkOptions{Files: []server.Files{passed.near}, Private: o.web.private(), Log: from.log}
	packed := server.NewChunks(passed, set)
	set.Form.Compression = store.None
	plain := server.NewChunks(passed, set)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".cacnk") {
			packed.ServeHTTP(w, r)
			return
		}
		plain.ServeHTTP(w, r)
	})
}

// A diskExports is an NBD server and the name of its first export.
type diskExports struct {
	*nbd.Server
	first string
}

// disks opens the images in folders, if they are to be NBD exports; nil if not. shut
// closes them, also after an error.
func (o serveOptions) disks(ctx context.Context, from *lazyOpener, dirs []string) (d *diskExports, shut func() error, err error) {
	shut = func() error { return nil }
	if o.nbd == "" {
		return nil, shut, nil
	}
	locations, err := diskLocations(dirs)
	if err != nil {
		return nil, shut, err
	}
	exports, shut, err := nbdOptions{lazy: o.lazy}.exports(ctx, from, locations)
	if err != nil {
		return nil, shut, err
	}
	s, err := nbd.NewServer(exports, nbd.Options{Grace: nbdGrace, Log: from.log})
	if err != nil {
		return nil, shut, err
	}
	return &diskExports{s, exports[0].Name}, shut, nil
}

// diskLocations are the indexes in those folders that have some.
func diskLocations(dirs []string) ([]string, error) {
	var with []string
	var none error
	for _, dir := range dirs {
		if _, err := indexesIn(dir); err != nil {
			none = fmt.Errorf("--nbd: %w", err)
			continue
		}
		with = append(with, dir)
	}
	if len(with) == 0 {
		return nil, none
	}
	return exportLocations(with)
}

// both serves over HTTP and, if there are disks, over NBD, until ctx ends.
func (o serveOptions) both(ctx context.Context, std streams, w *webServer, disks *diskExports) error {
	passed, err := passedListeners()
	if err != nil {
		return err
	}
	forDisks, web := passed.named("nbd")
	if disks == nil {
		web = append(web, forDisks...)
		forDisks = nil
	}
	if len(web) == 0 {
		if web, err = o.web.listenAnew(); err != nil {
			return errors.Join(append(closed(forDisks), err)...)
		}
	}
	uris := w.uris(web)
	var doors doors
	if disks != nil {
		if doors, err = o.diskDoors(std, forDisks, disks.first); err != nil {
			return errors.Join(append(closed(web), err)...)
		}
		uris = append(uris, doors.uris()...)
	}
	if err := announce(std, servingLines(uris), notify.Ready); err != nil {
		return errors.Join(append(closed(web), err, doors.close())...)
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return w.Serve(ctx, web...) })
	if disks != nil {
		all.Go(func() error { return doors.serve(ctx, disks.Server) })
	}
	return all.Wait()
}

// diskDoors are where NBD's clients come in: on the sockets that were passed for it,
// else where the user wants it.
func (o serveOptions) diskDoors(std streams, passed []net.Listener, first string) (doors, error) {
	n := nbdOptions{listen: o.nbd}
	if len(passed) == 0 {
		l, err := listenTCP(o.nbd)
		if err != nil {
			return nil, fmt.Errorf("--nbd: %w", err)
		}
		passed = []net.Listener{l}
	}
	return n.doors(std, passed, first), nil
}
