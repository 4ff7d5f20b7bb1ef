package sftp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"caravel/internal/redact"
)

// A server is whom a session is with.
type server struct {
	user string // "": as ssh is configured
	host string
	port string // "": as ssh is configured
}

// A location is an sftp URL, taken apart.
type location struct {
	server
	path string // unescaped; "" or with a slash in front
}

// parse takes an sftp URL apart. Its errors do not show a password that somebody
// may have put there.
func parse(text string) (location, error) {
	u, err := url.Parse(text)
	if err != nil {
		return location{}, fmt.Errorf("%s: malformed URL", redact.URL(text))
	}
	l := location{server{u.User.Username(), u.Hostname(), u.Port()}, u.Path}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "sftp":
		err = errors.New("not an sftp URL")
	case l.host == "":
		err = errors.New("names no host")
	case password:
		err = errors.New("ssh takes no password from a URL; use a key, an agent, or its question on the terminal")
	case u.RawQuery != "" || u.ForceQuery:
		err = errors.New("a ? in a URL is written %3F")
	case u.Fragment != "":
		err = errors.New("a # in a URL is written %23")
	case strings.ContainsRune(l.path, 0):
		err = errors.New("no path has a NUL")
	default:
		err = l.server.check()
	}
	if err != nil {
		return location{}, fmt.Errorf("%s: %w", redact.URL(text), err)
	}
	return l, nil
}

// check keeps from ssh what it might take for something else than a name: in its
// configuration, a proxy's command line is made of user and host.
func (s server) check() error {
	for what, text := range map[string]string{"user": s.user, "host": s.host} {
		if strings.HasPrefix(text, "-") || strings.ContainsFunc(text, unusual) {
			return fmt.Errorf("no %s is called %q", what, text)
		}
	}
	if strings.ContainsAny(s.host, ":%") || !utf8.ValidString(s.host) {
		// No name, and so an address.
		if a, err := netip.ParseAddr(s.host); err != nil || strings.ContainsFunc(a.Zone(), func(r rune) bool { return r > 0x7f || r == '%' }) {
			return fmt.Errorf("no host is called %q", s.host)
		}
	}
	if s.port == "" {
		return nil
	}
	if n, err := strconv.ParseUint(s.port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("no port is called %q", s.port)
	}
	return nil
}

// unusual are the characters of a shell's own, and those that nobody sees.
func unusual(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune("'\"`$\\;&<>|(){}[]*?!", r)
}

// folder is the path as the server takes it, without a slash at the end.
func (l location) folder() string {
	trimmed := strings.TrimRight(l.path, "/")
	if home, ok := strings.CutPrefix(trimmed, "/~"); ok && (home == "" || home[0] == '/') {
		return "." + home
	}
	return trimmed
}

// shown is the location as a URL.
func (l location) shown() string {
	u := url.URL{Scheme: "sftp", Host: l.host, Path: l.path}
	if l.user != "" {
		u.User = url.User(l.user)
	}
	switch {
	case l.port != "":
		u.Host = net.JoinHostPort(l.host, l.port)
	case strings.Contains(l.host, ":"):
		u.Host = "[" + l.host + "]"
	}
	return u.String()
}

// args are the words for ssh, in desync's order.
func (s server) args() []string {
	var args []string
	if s.port != "" {
		args = append(args, "-p", s.port)
	}
	host := s.host
	if s.user != "" {
		host = s.user + "@" + host
	}
	return append(args, "-s", "--", host, "sftp")
}

// escape is a path as it is written in a URL.
func escape(path string) string { return (&url.URL{Path: path}).EscapedPath() }
