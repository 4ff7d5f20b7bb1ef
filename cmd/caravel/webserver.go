package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/internal/notify"
	"caravel/server"
)

// webOptions are those of all commands that serve over HTTP.
type webOptions struct {
	listen        []string
	otherwise     string // where to listen if nothing is said
	cert, key     string // PEM files; "": no TLS
	mutual        bool
	clientCA      string
	authorization string // "": anything
	users         string // a file; "": nobody
	requests      string // a file, - for standard error; "": nothing
	conns         int
	grace         time.Duration
}

// webFlags have desync's names. listen is where to listen if nothing is said.
func webFlags(opt *webOptions, listen string) []cli.Flag {
	opt.otherwise, opt.conns, opt.grace = listen, 4096, 10*time.Second
	where := newList("listen", "listen on `HOST:PORT`, on :PORT of all addresses, or on a PORT of localhost; may be repeated", &opt.listen, "l")
	where.DefaultText = listen
	return []cli.Flag{
		where,
		&cli.StringFlag{Name: "cert", Usage: "serve over TLS with the certificate, and those between it and its authority, in `FILE` (PEM)", Destination: &opt.cert},
		&cli.StringFlag{Name: "key", Usage: "its private key is in `FILE`", Destination: &opt.key},
		newSwitch("mutual-tls", "serve only clients with a certificate of --client-ca", &opt.mutual),
		&cli.StringFlag{Name: "client-ca", Usage: "the authorities of clients' certificates are in `FILE`", Destination: &opt.clientCA},
		&cli.StringFlag{Name: "authorization", Usage: "serve those who send `VALUE` as the header Authorization; better in the environment, which others cannot see", EnvVars: []string{"DESYNC_HTTP_AUTH"}, Destination: &opt.authorization},
		&cli.StringFlag{Name: "users", Usage: "serve those with a name and password in `FILE`, made by htpasswd -B", Destination: &opt.users},
		&cli.StringFlag{Name: "log", Usage: "write a line for each request to `FILE`, - for standard error", Destination: &opt.requests},
		&cli.GenericFlag{Name: "max-connections", Usage: "serve at most `N` connections at a time; an idle one goes when there are more", Value: workersValue(&opt.conns)},
		&cli.GenericFlag{Name: "grace", Usage: "told to end, let requests go on for `TIME`", Value: durationValue(&opt.grace)},
	}
}

// webNames are the flags of which an empty value is a mistake.
func webNames() []string { return []string{"cert", "key", "client-ca", "users", "log"} }

// private reports whether not everybody is served.
func (o webOptions) private() bool { return o.authorization != "" || o.users != "" || o.mutual }

// tls reads the files; nil without TLS.
func (o webOptions) tls() (*tls.Config, error) {
	switch {
	case (o.cert == "") != (o.key == ""):
		return nil, usagef("--cert and --key need each other")
	case o.mutual != (o.clientCA != ""):
		return nil, usagef("--mutual-tls and --client-ca need each other")
	case o.mutual && o.cert == "":
		return nil, usagef("--mutual-tls needs --cert and --key")
	}
	return tlsOptions{cert: o.cert, key: o.key, ca: o.clientCA}.config()
}

// auth is who is served; nil: everybody.
func (o webOptions) auth() (*server.Auth, error) {
	if o.authorization == "" && o.users == "" {
		return nil, nil
	}
	var values []string
	if o.authorization != "" {
		values = []string{o.authorization}
	}
	if o.users == "" {
		return server.NewAuth(values, nil)
	}
	f, err := os.Open(o.users)
	if err != nil {
		return nil, fmt.Errorf("--users: %w", err)
	}
	defer f.Close()
	a, err := server.NewAuth(values, f)
	if err != nil {
		return nil, fmt.Errorf("--users: %s: %w", o.users, err)
	}
	return a, nil
}

// requestLog is where requests are noted, as desync does it; nil: nowhere.
func (o webOptions) requestLog(std streams) (*log.Logger, io.Closer, error) {
	switch o.requests {
	case "":
		return nil, io.NopCloser(nil), nil
	case "-":
		return log.New(std.log, "", log.LstdFlags), io.NopCloser(nil), nil
	}
	f, err := os.OpenFile(o.requests, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, nil, fmt.Errorf("--log: %w", err)
	}
	return log.New(f, "", log.LstdFlags), f, nil
}

// A webServer is one that is ready to listen.
type webServer struct {
	*server.Server
	opt    webOptions
	std    streams
	scheme string
	logged io.Closer
}

// server makes a server, which is to be closed.
func (o webOptions) server(std streams, h http.Handler, logger *slog.Logger, gauges func() []server.Gauge) (*webServer, error) {
	secure, err := o.tls()
	if err != nil {
		return nil, err
	}
	auth, err := o.auth()
	if err != nil {
		return nil, err
	}
	requests, logged, err := o.requestLog(std)
	if err != nil {
		return nil, err
	}
	s := server.New(h, server.Options{
		Auth:     auth,
		TLS:      secure,
		Conns:    o.conns,
		Grace:    max(o.grace, time.Millisecond),
		Gauge:    gauges,
		Requests: requests,
		Log:      logger,
	})
	w := &webServer{Server: s, opt: o, std: std, scheme: "http", logged: logged}
	if secure != nil {
		w.scheme = "https"
	}
	return w, nil
}

func (w *webServer) Close() error { return w.logged.Close() }

// serve listens, says so, and serves until ctx ends.
func (w *webServer) serve(ctx context.Context, writable bool) error {
	passed, err := passedListeners()
	if err != nil {
		return err
	}
	all := passed.all()
	if len(all) == 0 {
		if all, err = w.opt.listenAnew(); err != nil {
			return err
		}
	}
	w.warn(all, writable)
	if err := announce(w.std, servingLines(w.uris(all)), notify.Ready); err != nil {
		return errors.Join(append(closed(all), err)...)
	}
	return w.Serve(ctx, all...)
}

// servingLines is what a server says when clients can connect.
func servingLines(uris []string) string { return "Serving: " + strings.Join(uris, "\nServing: ") }

func (w *webServer) uris(all []net.Listener) (uris []string) {
	for _, l := range all {
		uris = append(uris, w.scheme+"://"+l.Addr().String()+"/")
	}
	return uris
}

// listenAnew listens where the user wants it.
func (o webOptions) listenAnew() (all []net.Listener, err error) {
	typed := o.listen
	if len(typed) == 0 {
		typed = []string{o.otherwise}
	}
	for _, typed := range typed {
		at := webAddress(typed)
		l, err := net.Listen("tcp", at)
		if err != nil {
			return nil, errors.Join(append([]error{fmt.Errorf("--listen: %s: %w", at, netCause(err))}, closed(all)...)...)
		}
		all = append(all, l)
	}
	return all, nil
}

// webAddress is what the user means: a port alone is one of this machine.
func webAddress(typed string) string {
	if _, err := strconv.ParseUint(typed, 10, 16); err == nil {
		return net.JoinHostPort("localhost", typed)
	}
	return typed
}

// warn tells who has others write here whom nobody knows.
func (w *webServer) warn(all []net.Listener, writable bool) {
	if !writable || w.opt.private() {
		return
	}
	for _, l := range all {
		if at, err := netip.ParseAddrPort(l.Addr().String()); err == nil && !at.Addr().IsLoopback() {
			fmt.Fprintf(w.std.err, "caravel: whoever reaches %v can write; --authorization, --users or --mutual-tls refuses strangers\n", at)
		}
	}
}
