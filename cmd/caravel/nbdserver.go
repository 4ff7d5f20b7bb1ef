package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/internal/notify"
	"caravel/nbd"
	"caravel/store/http"
)

// nbdGrace is how long reads in flight may go on when the server is told to
// end: a store that answers does so in that time, a dead one would not.
const nbdGrace = 3 * time.Second

type nbdOptions struct {
	lazy   lazyOptions
	socket string
	listen string
}

func nbdServerCommand() *cli.Command {
	var opt nbdOptions
	return &cli.Command{
		Name:      "nbd-server",
		Category:  lazily,
		Usage:     "serve images as network block devices without downloading them",
		ArgsUsage: "INDEX|FILE...",
		Description: `Serves each image, read-only, as an NBD export named like the index without its
ending; the first one is also the default export. Prints "Serving: URI" when
clients can connect and stays until SIGINT or SIGTERM. What is kept, and what is
fetched in the background, is as in caravel mount.

` + examples(
			"caravel nbd-server --socket /run/disk.sock http://host/disk.caibx",
			"nbdcopy 'nbd+unix:///?socket=/run/disk.sock' disk.img",
			"caravel nbd-server --listen localhost:10809 http://host/disk.caibx",
			"qemu-system-x86_64 -snapshot -drive file=nbd://localhost/disk,format=raw",
		),
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "socket", Usage: "listen on the Unix socket `PATH`", Destination: &opt.socket},
			&cli.StringFlag{Name: "listen", Usage: "listen on `HOST:PORT`; NBD's port is 10809", Destination: &opt.listen},
		}, lazyFlags(&opt.lazy)...),
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() == 0:
				return usagef("name an INDEX or FILE to serve")
			case (opt.socket == "") == (opt.listen == ""):
				return usagef("say either --socket PATH or --listen HOST:PORT")
			}
			return nbdServer(c.Context, streamsOf(c), c.Args().Slice(), opt)
		},
	}
}

func nbdServer(ctx context.Context, std streams, locations []string, opt nbdOptions) (err error) {
	if len(locations) > 1 && opt.lazy.ofOneImage() {
		return usagef("--record, --profile FILE and --materialize FILE are for one image, not %d", len(locations))
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
		exports = append(exports, nbd.Export{
			Name:        img.name,
			Description: http.Redact(location),
			Size:        img.size,
			Reader:      nbdReader{img, img.reader()},
		})
	}
	server, err := nbd.NewServer(exports, nbd.Options{Grace: nbdGrace, Log: from.log})
	if err != nil {
		return err
	}
	listener, uri, err := opt.open(std)
	if err != nil {
		return err
	}
	if err := announce(std, "Serving: "+uri, notify.Ready); err != nil {
		return errors.Join(err, listener.Close())
	}
	return server.Serve(ctx, listener)
}

// open begins to listen. A socket is for its owner alone.
func (o nbdOptions) open(std streams) (net.Listener, string, error) {
	if o.socket != "" {
		listener, err := listenUnix(o.socket)
		return listener, "nbd+unix:///?socket=" + o.socket, err
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return nil, "", err
	}
	if at, err := netip.ParseAddrPort(listener.Addr().String()); err == nil && !at.Addr().IsLoopback() {
		fmt.Fprintf(std.err, "caravel: whoever reaches %v can read the image; nothing is encrypted\n", at)
	}
	return listener, "nbd://" + listener.Addr().String(), nil
}

// listenUnix takes the place of a socket that nobody listens on any more, and
// of nothing else.
func listenUnix(path string) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == fs.ModeSocket {
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
			return nil, fmt.Errorf("%s: another server listens there", path)
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	return listenPrivately(path)
}

// An nbdReader is an image as an export wants it.
type nbdReader struct {
	img *lazyImage
	reader
}

// Holes are the chunks of zeros.
func (r nbdReader) Holes(off, n int64) iter.Seq2[int64, int64] { return r.img.holes(off, n) }

// Want fetches ahead what a client says that it will read.
func (r nbdReader) Want(off, n int64) { r.img.want(off, n) }
