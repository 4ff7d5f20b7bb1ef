package ftp

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"caravel/internal/redact"
)

// A server is whom a connection is with, and as whom.
type server struct {
	scheme         string // ftp, ftps or ftpes
	addr           string // host:port
	host           string
	user, password string
}

// A location is a URL, taken apart.
type location struct {
	server
	port string // as in the URL
	path string // unescaped; "" or with a slash in front
	own  bool   // the user is the URL's
}

// parse takes a URL apart. Its errors do not show user and password.
func parse(text string) (location, error) {
	u, err := url.Parse(text)
	if err != nil {
		return location{}, fmt.Errorf("%s: malformed URL", redact.URL(text))
	}
	l := location{server: server{scheme: u.Scheme, host: u.Hostname()}, port: u.Port(), path: u.Path}
	port := map[string]string{"ftp": "21", "ftpes": "21", "ftps": "990"}[u.Scheme]
	switch {
	case port == "":
		err = errors.New("not an ftp, ftps or ftpes URL")
	case l.host == "":
		err = errors.New("names no host")
	case !isHost(l.host):
		err = errors.New("a host is named by letters, digits and . - _ in ASCII, or by its address")
	case u.RawQuery != "" || u.ForceQuery:
		err = errors.New("a ? in a URL is written %3F")
	case u.Fragment != "":
		err = errors.New("a # in a URL is written %23")
	case strings.ContainsAny(u.Path+u.User.String(), "\x00\r\n"):
		err = errors.New("no path has an end of a line in it")
	}
	if err != nil {
		return location{}, fmt.Errorf("%s: %w", redact.URL(text), err)
	}
	if l.port != "" {
		port = l.port
	}
	l.addr = joinPort(l.host, port)
	l.user, l.password = "anonymous", "anonymous@"
	if u.User.Username() != "" {
		l.own, l.user = true, u.User.Username()
		l.password, _ = u.User.Password()
	}
	return l, nil
}

// isHost reports whether a name, or an address with its zone, can be written in a URL
// and read again.
func isHost(host string) bool {
	address, zone, zoned := strings.Cut(host, "%")
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
	}
	if strings.Contains(address, ":") {
		_, err := netip.ParseAddr(address)
		return err == nil && (!zoned || zone != "" && !strings.ContainsFunc(zone, odd))
	}
	return !zoned && !strings.ContainsFunc(address, odd)
}

func joinPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// folder is the path as the server takes it, without a slash at the end.
func (l location) folder() string {
	if rest, ok := strings.CutPrefix(l.path, "//"); ok {
		return "/" + strings.Trim(rest, "/")
	}
	if path := strings.Trim(l.path, "/"); path != "" {
		return "./" + path // no option of a listing
	}
	return "."
}

// shown is the location as a URL, without the password.
func (l location) shown() string {
	u := url.URL{Scheme: l.scheme, Host: strings.TrimSuffix(joinPort(l.host, l.port), ":"), Path: l.path}
	if l.own {
		u.User = url.User(l.user)
	}
	return u.String()
}

// escape is a path as it is written in a URL.
func escape(path string) string { return (&url.URL{Path: path}).EscapedPath() }
