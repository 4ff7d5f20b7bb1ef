package ssh

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"caravel/store"
)

// A place is a folder or file, and how the program beside it is started.
type place struct {
	host   string // user@host, for ssh
	port   string // "": ssh's own
	scheme string // of a helper program; "": ssh
	path   string // there; for a helper program, the URL
	prefix string // before path, for people
}

// String is the location without secrets. What stands behind ? or before @ in a URL may
// be one.
func (p place) String() string {
	if p.scheme == "" {
		return p.prefix + p.path
	}
	_, rest, _ := strings.Cut(p.path, "://")
	rest, _, _ = strings.Cut(rest, "?")
	host, path, slash := strings.Cut(rest, "/")
	host = host[strings.LastIndexByte(host, '@')+1:]
	if slash {
		path = "/" + path
	}
	return p.scheme + "://" + host + path
}

// parse reads a location.
func parse(location string) (place, error) {
	scheme, _, isURL := strings.Cut(location, "://")
	switch {
	case !isURL:
		host, path, _ := strings.Cut(location, ":")
		return remote(place{host: host, path: path, prefix: host + ":"})
	case !strings.EqualFold(scheme, "ssh"):
		return helped(place{scheme: strings.ToLower(scheme), path: location})
	}
	u, err := url.Parse(location)
	if err != nil {
		return place{}, refused("ssh://", "a URL is of the form ssh://[user@]host[:port]/path")
	}
	p := place{host: u.Hostname(), port: u.Port(), path: u.Path}
	if user := u.User.Username(); user != "" {
		p.host = user + "@" + p.host
	}
	p.prefix = "ssh://" + p.host
	if p.port != "" {
		p.prefix += ":" + p.port
	}
	if _, secret := u.User.Password(); secret {
		return place{}, refused(p.String(), "ssh takes no password from a URL; use a key")
	}
	return remote(p)
}

// remote refuses what ssh, or the shell behind it, would take for something else.
func remote(p place) (place, error) {
	switch {
	case p.host == "" || strings.Trim(p.host, letters+"@") != "" || strings.HasPrefix(p.host, "-") || strings.HasSuffix(p.host, "@"):
		return place{}, refused(p.String(), "names no host")
	case p.path == "":
		return place{}, refused(p.String(), "names no path behind the host")
	case strings.ContainsAny(p.path, "\x00\n"):
		return place{}, refused(fmt.Sprintf("%q", p), "a path with a line break cannot be sent")
	case strings.HasPrefix(p.path, "-"):
		p.path = "./" + p.path
	}
	return p, nil
}

// letters are what casync takes for part of a host's or user's name, and of a path
// what no shell changes.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.%"

// helped refuses a URL whose scheme would lead to another program than casync's helper.
func helped(p place) (place, error) {
	if strings.Trim(p.scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" {
		return place{}, refused(p.String(), "no scheme has such letters")
	}
	return p, nil
}

// split is the folder of a file, and its name there, with the query of a URL.
func (p place) split() (folder place, name string) {
	end := len(p.path)
	if query := strings.IndexByte(p.path, '?'); p.scheme != "" && query >= 0 {
		end = query
	}
	slash := strings.LastIndexByte(p.path[:end], '/') + 1
	name = p.path[slash:]
	p.path = p.path[:slash]
	return p, name
}

// file is the place of a file in a folder.
func (p place) file(name string) place {
	p.path += name
	return p
}

// Helper is casync's program for the URLs of a scheme: casync-SCHEME in the folder
// $CASYNC_PROTOCOL_PATH, usually /usr/lib/casync/protocols.
func Helper(scheme string) string {
	return filepath.Join(cmp.Or(os.Getenv("CASYNC_PROTOCOL_PATH"), "/usr/lib/casync/protocols"), "casync-"+scheme)
}

// HasHelper reports whether there is a helper program for a scheme.
func HasHelper(scheme string) bool {
	_, err := exec.LookPath(Helper(scheme))
	return err == nil
}

// command starts the far side as casync does: with a word for each argument, of which
// ssh makes one line for a shell. Paths that this would tear apart are quoted, unlike
// casync's.
func (p place) command(ctx context.Context, verb string, args ...string) *exec.Cmd {
	if p.scheme != "" {
		return exec.CommandContext(ctx, Helper(p.scheme), append([]string{verb, "-"}, args...)...)
	}
	var line []string
	if p.port != "" {
		line = append(line, "-p", p.port)
	}
	line = append(line, p.host, remoteProgram(), verb, "-")
	for _, a := range args {
		line = append(line, quoted(a))
	}
	return exec.CommandContext(ctx, localProgram(), line...)
}

// localProgram is $CASYNC_SSH_PATH, which takes a host and a command.
func localProgram() string { return cmp.Or(os.Getenv("CASYNC_SSH_PATH"), "ssh") }

// remoteProgram is $CASYNC_REMOTE_PATH.
func remoteProgram() string { return cmp.Or(os.Getenv("CASYNC_REMOTE_PATH"), "casync") }

// quoted is a word for a shell.
func quoted(word string) string {
	if strings.Trim(word, letters+"/:@,+=") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// A failure is an error with what it means to a store.
type failure struct {
	text   string
	causes []error
}

func (e *failure) Error() string   { return e.text }
func (e *failure) Unwrap() []error { return e.causes }

// refused is an error that the next try would meet, too.
func refused(where, format string, args ...any) error {
	return &failure{fmt.Sprintf("ssh: %s: %s", where, fmt.Sprintf(format, args...)), []error{store.ErrRefused}}
}
