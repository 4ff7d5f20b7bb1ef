package main

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"caravel/internal/notify"
	"caravel/nbd"
)

// nbdGrace is how long reads in flight may go on when the server is told to
// end: a store that answers does so in that time, a dead one would not.
const nbdGrace = 3 * time.Second

type nbdOptions struct {
	lazy     lazyOptions
	socket   string // "": none
	listen   string // "": nowhere, or with no socket either, on the usual port
	tls      tlsOptions
	unlisted bool
	pidFile  string // "": none
}

func nbdServerCommand() *cli.Command {
	var opt nbdOptions
	return &cli.Command{
		Name:      "nbd-server",
		Category:  lazily,
		Usage:     "serve images as network block devices without downloading them",
		ArgsUsage: "INDEX|FILE|DIR...",
		Description: `Serves each image, read-only, as an NBD export named like the index without its
ending, of a folder each index (*.caibx) in it; the first one is also the default
export. Without --socket and --listen it listens on localhost:10809. Prints
"Serving: URI" when clients can connect and stays until SIGINT or SIGTERM. What is
kept, and what is fetched in the background, is as in caravel mount.

Sockets that a service manager passes (LISTEN_FDS) are used instead of --socket
and --listen. With a certificate clients may use TLS; whether they must, and must
show one themselves, is up to you. The metadata context caravel:cached tells what
of an image can be read without a network.

` + examples(
			"caravel nbd-server --socket /run/disk.sock http://host/disk.caibx",
			"nbdcopy 'nbd+unix:///?socket=/run/disk.sock' disk.img",
			"caravel nbd-server http://host/disk.caibx",
			"qemu-system-x86_64 -snapshot -drive file=nbd://localhost/disk,format=raw",
			"nbdinfo --map=caravel:cached nbd://localhost/disk",
			"caravel nbd-server --listen 0.0.0.0:10809 --tls-certificates /etc/pki/nbd --tls-required /srv/images",
			"systemd-socket-activate -l 10809 caravel nbd-server /srv/images",
		),
		Flags: append(nbdFlags(&opt), lazyFlags(&opt.lazy)...),
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usagef("name an INDEX, FILE or DIR to serve")
			}
			return nbdServer(c.Context, streamsOf(c), c.Args().Slice(), opt)
		},
	}
}

func nbdFlags(opt *nbdOptions) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "socket", Usage: "listen on the Unix socket `PATH`", Destination: &opt.socket},
		&cli.StringFlag{Name: "listen", Usage: "listen on `HOST:PORT`, or on a PORT of localhost; NBD's is 10809", Destination: &opt.listen},
		newSwitch("unlisted", "do not tell clients what exports there are; who knows a name can use it", &opt.unlisted),
		&cli.StringFlag{Name: "pid-file", Usage: "while clients can connect, have the process's number in `FILE`", Destination: &opt.pidFile},
	}, tlsFlags(&opt.tls)...)
}

func nbdServer(ctx context.Context, std streams, args []string, opt nbdOptions) (err error) {
	locations, err := exportLocations(args)
	if err != nil {
		return err
	}
	if len(locations) > 1 && opt.lazy.ofOneImage() {
		return usagef("--record, --profile FILE and --materialize FILE are for one image, not %d", len(locations))
	}
	secure, err := opt.tls.config()
	if err != nil {
		return err
	}
	from, err := startLazy(ctx, std, opt.lazy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	var exports []nbd.Export
	for _, location := range locations {
		img, err := from.open(ctx, location)
		if err != nil {
			return err
		}
		defer img.Close()
		exports = append(exports, newExport(location, img))
	}
	server, err := nbd.NewServer(exports, nbd.Options{
		Grace:       nbdGrace,
		TLS:         secure,
		TLSRequired: opt.tls.required,
		Unlisted:    opt.unlisted,
		Log:         from.log,
	})
	if err != nil {
		return err
	}
	return opt.serve(ctx, std, server)
}

// serve has server accept clients until ctx ends.
func (o nbdOptions) serve(ctx context.Context, std streams, server *nbd.Server) (err error) {
	doors, err := o.open(std)
	if err != nil {
		return err
	}
	remove, err := writePIDFile(ctx, o.pidFile)
	if err != nil {
		return errors.Join(err, doors.close())
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := announce(std, "Serving: "+strings.Join(doors.uris(), "\nServing: "), notify.Ready); err != nil {
		return errors.Join(err, doors.close())
	}
	all, ctx := errgroup.WithContext(ctx)
	for _, d := range doors {
		all.Go(func() error { return server.Serve(ctx, d.Listener) })
	}
	return all.Wait()
}

// An nbdReader is an image as an export wants it.
type nbdReader struct {
	img *lazyImage
	reader
}

// Holes are the chunks of zeros.
func (r nbdReader) Holes(off, n int64) iter.Seq2[int64, int64] { return r.img.holes(off, n) }

// Local is what can be read without a network.
func (r nbdReader) Local(off, n int64) iter.Seq2[int64, int64] { return r.img.local(off, n) }

// Want fetches ahead what a client says that it will read.
func (r nbdReader) Want(off, n int64) { r.img.want(off, n) }
