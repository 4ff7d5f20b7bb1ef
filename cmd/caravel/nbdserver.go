package main

import (
	"context"
	"errors"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"caravel/internal/notify"
	"caravel/internal/redact"
	"caravel/nbd"
)

// nbdGrace is how long reads in flight may go on when the server is told to
// end: a store that answers does so in that time, a dead one would not.
const nbdGrace = 3 * time.Second

type nbdOptions struct {
	lazy     lazyOptions
	overlay  overlayOptions
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
export. Prints "Serving: URI" when clients can connect, a line for each address,
and stays until SIGINT or SIGTERM. A URI is that of the first export: of others the
name follows the host, or "nbd+unix:///". What is kept, and what is fetched in the
background, is as in caravel mount.

Without --socket and --listen it listens on localhost:10809. A PORT without a HOST
is one of localhost, also with a colon before it; for all of this machine's
addresses the HOST is 0.0.0.0 or [::]. PORT 0 is any that is free, which the URI
tells. A socket is its owner's alone; one that a server has left that is no more is
replaced. Sockets that a service manager passes (LISTEN_FDS) are used instead of
both. With a certificate clients may use TLS; whether they must, and must show one
themselves, is up to you.

With --overlay one image can be written to, and a machine boots from it as from a
disk of its own: what is written is in FILE, which a later run goes on with, over
the same image and with the size that it has.

The metadata context caravel:cached tells what of an image can be read without a
network.

` + examples(
			"caravel nbd-server --socket /run/disk.sock http://host/disk.caibx",
			"nbdcopy 'nbd+unix:///?socket=/run/disk.sock' disk.img",
			"caravel nbd-server http://host/disk.caibx",
			"qemu-system-x86_64 -snapshot -drive file=nbd://localhost/disk,format=raw",
			"caravel nbd-server --socket /run/vm.sock --overlay vm.overlay http://host/disk.caibx",
			"qemu-system-x86_64 -drive 'file=nbd+unix:///?socket=/run/vm.sock,format=raw'",
			"nbdinfo --map=caravel:cached nbd://localhost/disk",
			"caravel nbd-server --listen 0.0.0.0:10809 --tls-certificates /etc/pki/nbd --tls-required /srv/images",
			"systemd-socket-activate -l 127.0.0.1:10809 caravel nbd-server /srv/images",
		),
		Flags: slices.Concat(nbdFlags(&opt), overlayFlags(&opt.overlay), lazyServerFlags(&opt.lazy)),
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usagef("name an INDEX, FILE or DIR to serve")
			}
			if err := refuseEmpty(c, "socket", "listen", "overlay", "pid-file", "tls-cert", "tls-key", "tls-ca", "tls-certificates"); err != nil {
				return err
			}
			return nbdServer(c.Context, streamsOf(c), c.Args().Slice(), opt)
		},
	}
}

func nbdFlags(opt *nbdOptions) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "socket", Usage: "listen on the Unix socket `PATH`", Destination: &opt.socket},
		&cli.StringFlag{Name: "listen", Aliases: []string{"l"}, Usage: "listen on `HOST:PORT`, or on a PORT of localhost; NBD's is " + nbdPort, Destination: &opt.listen},
		newSwitch("unlisted", "do not tell clients what exports there are, and have no default; who knows a name can use it", &opt.unlisted),
		&cli.StringFlag{Name: "pid-file", Usage: "while clients can connect, have the process's number in `FILE`", Destination: &opt.pidFile},
	}, tlsFlags(&opt.tls)...)
}

func nbdServer(ctx context.Context, std streams, args []string, opt nbdOptions) (err error) {
	if err := opt.check(); err != nil {
		return err
	}
	locations, err := exportLocations(args)
	if err != nil {
		return err
	}
	if alone := opt.ofOneImage(); alone != "" && len(locations) > 1 {
		return usagef("%s is for one image, not %d", alone, len(locations))
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
	from.whole = opt.overlay.file != "" // which image it is over is known for sure
	exports, shut, err := opt.exports(ctx, from, locations)
	defer func() { err = errors.Join(err, shut()) }()
	if err != nil {
		return err
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
	return opt.serve(ctx, std, server, exports[0].Name)
}

// check refuses before anything is fetched what could never be.
func (o nbdOptions) check() error {
	if _, err := listenAddress(o.listen); err != nil {
		return err
	}
	if _, err := socketPath(o.socket); err != nil {
		return err
	}
	return o.overlay.check()
}

// ofOneImage is a flag that takes a single image, "" if there is none.
func (o nbdOptions) ofOneImage() string {
	if o.overlay.file != "" {
		return "--overlay"
	}
	return o.lazy.ofOneImage()
}

// exports opens images; shut closes what has been opened, also after an error.
func (o nbdOptions) exports(ctx context.Context, from *lazyOpener, locations []string) (all []nbd.Export, shut func() error, err error) {
	var closers []func() error
	shut = func() (err error) {
		for _, c := range slices.Backward(closers) {
			err = errors.Join(err, c())
		}
		return err
	}
	for _, location := range locations {
		img, err := from.open(ctx, location)
		if err != nil {
			return nil, shut, err
		}
		closers = append(closers, img.Close)
		d, err := o.overlay.over(img)
		if err != nil {
			return nil, shut, err
		}
		closers = append(closers, d.Close)
		all = append(all, nbd.Export{
			Name:        img.name,
			Description: redact.URL(location),
			Size:        d.size,
			Reader:      d.Reader,
			Preferred:   preferred(img.chunk),
			Zeros:       img.chunk == 0,
		})
	}
	return all, shut, nil
}

// preferred is the block size that clients are told to read in, of an image of
// such chunks: less of one costs as much as all of it.
func preferred(chunk int) int {
	if chunk == 0 {
		return 0
	}
	return 1 << (bits.Len(uint(min(max(chunk, 4<<10), 1<<20))) - 1)
}

// serve has server, whose first export has that name, accept clients until ctx ends.
func (o nbdOptions) serve(ctx context.Context, std streams, server *nbd.Server, first string) (err error) {
	doors, err := o.open(std, first)
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
	return doors.serve(ctx, server)
}

// serve has a server accept clients until ctx ends.
func (d doors) serve(ctx context.Context, server *nbd.Server) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, one := range d {
		all.Go(func() error { return server.Serve(ctx, one.Listener) })
	}
	return all.Wait()
}
