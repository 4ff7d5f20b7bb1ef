package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// nbdPort is where NBD servers are looked for.
const nbdPort = "10809"

// A door is where clients come in.
type door struct {
	net.Listener
	uri string // of the first export
}

type doors []door

func (d doors) uris() (all []string) {
	for _, one := range d {
		all = append(all, one.uri)
	}
	return all
}

func (d doors) close() error {
	var errs []error
	for _, one := range d {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// open begins to listen: on the sockets that a service manager has passed, else
// where the user wants it. A Unix socket that it makes is for its owner alone.
func (o nbdOptions) open(std streams, first string) (doors, error) {
	passed, err := passedListeners()
	if err != nil {
		return nil, err
	}
	listeners := passed.all()
	if len(listeners) == 0 {
		if listeners, err = o.listenAnew(); err != nil {
			return nil, err
		}
	}
	return o.doors(std, listeners, first), nil
}

// doors tells who opens the images to others.
func (o nbdOptions) doors(std streams, listeners []net.Listener, first string) (all doors) {
	for _, l := range listeners {
		all = append(all, door{l, o.uriOf(l.Addr(), first)})
		o.warn(std, l.Addr())
	}
	return all
}

// A passedListener is a socket of socket activation, sd_listen_fds(3).
type passedListener struct {
	net.Listener
	name string // FileDescriptorName= of the socket's unit
}

type passed []passedListener

func (p passed) all() (all []net.Listener) {
	for _, l := range p {
		all = append(all, l.Listener)
	}
	return all
}

// named are those of that name, and the others.
func (p passed) named(name string) (so, others []net.Listener) {
	for _, l := range p {
		if l.name == name {
			so = append(so, l.Listener)
		} else {
			others = append(others, l.Listener)
		}
	}
	return so, others
}

func passedListeners() (all passed, err error) {
	for _, f := range activation.Files(true) {
		if err == nil {
			var l net.Listener
			if l, err = net.FileListener(f); err == nil {
				all = append(all, passedListener{l, f.Name()})
			} else {
				err = fmt.Errorf("the socket %s that was passed: %w", f.Name(), err)
			}
		}
		f.Close() // a listener has its own copy
	}
	if err != nil {
		for _, l := range all {
			l.Close()
		}
	}
	return all, err
}

func (o nbdOptions) listenAnew() (all []net.Listener, err error) {
	if o.socket != "" {
		l, err := listenUnix(o.socket)
		if err != nil {
			return nil, fmt.Errorf("--socket: %w", err)
		}
		all = append(all, l)
	}
	if o.listen == "" && o.socket != "" {
		return all, nil
	}
	l, err := listenTCP(o.listen)
	if err != nil {
		return nil, errors.Join(append(closed(all), fmt.Errorf("--listen: %w", err))...)
	}
	return append(all, l), nil
}

// closed closes what was opened before something failed.
func closed(all []net.Listener) (errs []error) {
	for _, l := range all {
		errs = append(errs, l.Close())
	}
	return errs
}

func listenTCP(typed string) (net.Listener, error) {
	at, err := listenAddress(typed)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, netCause(err))
	}
	return l, nil
}

// listenAddress is what the user means: a port alone is one of this machine.
func listenAddress(typed string) (string, error) {
	host, port := "", cmp.Or(typed, nbdPort)
	if strings.Contains(port, ":") {
		var err error
		if host, port, err = net.SplitHostPort(port); err != nil {
			port = "" // no number either
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		hint := ""
		if strings.Contains(typed, "/") {
			hint = "; a Unix socket goes with --socket"
		}
		return "", usagef("invalid value %q for --listen: want HOST:PORT, [IPV6]:PORT, or a PORT of localhost, from 0 to 65535%s", typed, hint)
	}
	return net.JoinHostPort(cmp.Or(host, "localhost"), port), nil
}

// netCause is an error of package net without the address, which is said once.
func netCause(err error) error {
	var system *os.SyscallError
	var name *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &system):
		return system.Err
	case errors.As(err, &name):
		return errors.New(name.Err)
	case errors.As(err, &op):
		return op.Err
	}
	return err
}

// inURI makes of what url.QueryEscape has written the value of a URI's query, as libnbd
// takes it: slashes need no escape, and a space is no plus.
var inURI = strings.NewReplacer("%2F", "/", "+", "%20")

// uriOf is how clients name the first export at an address: if it is the default,
// which it is of listed ones, it need not be named.
func (o nbdOptions) uriOf(a net.Addr, first string) string {
	scheme, name := "nbd", ""
	if o.unlisted {
		name = "/" + url.PathEscape(first)
	}
	if o.tls.wanted() {
		scheme = "nbds"
	}
	if a.Network() == "unix" {
		return scheme + "+unix://" + cmp.Or(name, "/") + "?socket=" + inURI.Replace(url.QueryEscape(a.String()))
	}
	return scheme + "://" + a.String() + name
}

// warn tells who opens the images to others.
func (o nbdOptions) warn(std streams, a net.Addr) {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil || at.Addr().IsLoopback() {
		return
	}
	can := "read"
	if o.overlay.file != "" {
		can = "read and write"
	}
	switch {
	case !o.tls.wanted():
		fmt.Fprintf(std.err, "caravel: whoever reaches %v can %s the image; nothing is encrypted\n", at, can)
	case !o.tls.required:
		fmt.Fprintf(std.err, "caravel: whoever reaches %v can %s the image, also in the clear; --tls-required refuses that\n", at, can)
	}
}
