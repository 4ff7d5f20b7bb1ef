package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// A door is where clients come in.
type door struct {
	net.Listener
	uri string
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
func (o nbdOptions) open(std streams) (doors, error) {
	listeners, err := passedListeners()
	if err == nil && len(listeners) == 0 {
		listeners, err = o.listenAnew()
	}
	if err != nil {
		return nil, err
	}
	var all doors
	for _, l := range listeners {
		all = append(all, door{l, o.uriOf(l.Addr())})
		o.warn(std, l.Addr())
	}
	return all, nil
}

// passedListeners are the sockets of socket activation, sd_listen_fds(3).
func passedListeners() (all []net.Listener, err error) {
	for _, f := range activation.Files(true) {
		if err == nil {
			var l net.Listener
			if l, err = net.FileListener(f); err == nil {
				all = append(all, l)
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
			return nil, err
		}
		all = append(all, l)
	}
	if o.listen == "" && o.socket != "" {
		return all, nil
	}
	l, err := net.Listen("tcp", listenAddress(o.listen))
	if err != nil {
		return nil, errors.Join(append(closed(all), err)...)
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

// listenAddress is what the user means: a port alone is one of this machine.
func listenAddress(typed string) string {
	const port = "10809"
	switch {
	case typed == "":
		return "localhost:" + port
	case strings.HasPrefix(typed, ":"):
		return "localhost" + typed
	case strings.Trim(typed, "0123456789") == "":
		return "localhost:" + typed
	}
	return typed
}

// inURI writes a path as the value of a URI's query.
var inURI = strings.NewReplacer("%2F", "/", "+", "%20")

// uriOf is how clients name an address.
func (o nbdOptions) uriOf(a net.Addr) string {
	scheme := "nbd"
	if o.tls.wanted() {
		scheme = "nbds"
	}
	if a.Network() == "unix" {
		return scheme + "+unix:///?socket=" + inURI.Replace(url.QueryEscape(a.String()))
	}
	return scheme + "://" + a.String()
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
