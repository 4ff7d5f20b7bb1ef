package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unicode"
)

// A Netrc has users and passwords by host, as ftp(1) and curl read them from a
// file .netrc. The zero value has none.
type Netrc struct {
	machines []machine // the last one may be named "", which is any host
}

type machine struct{ host, login, password string }

// LoadNetrc reads the file that $NETRC names, which must be there, or .netrc in the
// home directory if it is.
func LoadNetrc() (Netrc, error) {
	path, named := os.LookupEnv("NETRC")
	if path == "" {
		named = false
		home, err := os.UserHomeDir()
		if err != nil {
			return Netrc{}, nil
		}
		path = filepath.Join(home, ".netrc")
		if _, err := os.Stat(path); err != nil && runtime.GOOS == "windows" {
			path = filepath.Join(home, "_netrc")
		}
	}
	f, err := os.Open(path)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return Netrc{}, nil
	}
	if err != nil {
		return Netrc{}, fmt.Errorf("netrc: %w", err)
	}
	defer f.Close()
	n, err := ReadNetrc(f)
	if err != nil {
		return Netrc{}, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// ReadNetrc reads a .netrc. Macros are skipped; an error names the line and not what
// is in it.
func ReadNetrc(r io.Reader) (Netrc, error) {
	var n Netrc
	words := words{lines: bufio.NewScanner(io.LimitReader(r, sizeLimit+1))}
	for {
		word, ok := words.next(true)
		if !ok || n.complete() {
			break
		}
		if err := n.read(word, &words); err != nil {
			return Netrc{}, err
		}
	}
	if err := words.lines.Err(); err != nil {
		return Netrc{}, words.fail(err.Error())
	}
	if words.size > sizeLimit {
		return Netrc{}, fmt.Errorf("netrc: more than %d bytes", sizeLimit)
	}
	return n, nil
}

// complete reports whether any host is in it, so that what follows is for none.
func (n *Netrc) complete() bool {
	at := n.last()
	return at != nil && at.host == "" && at.login != "" && at.password != ""
}

// last is the machine that is being read; nil: none.
func (n *Netrc) last() *machine {
	if len(n.machines) == 0 {
		return nil
	}
	return &n.machines[len(n.machines)-1]
}

// read takes a word, and what belongs to it.
func (n *Netrc) read(word string, words *words) error {
	switch word {
	case "default":
		n.machines = append(n.machines, machine{})
	case "machine":
		host, ok := words.next(false)
		if !ok || host == "" {
			return words.fail("machine without a name")
		}
		n.machines = append(n.machines, machine{host: host})
	case "login", "password", "account":
		value, ok := words.next(false)
		at := n.last()
		switch {
		case !ok:
			return words.fail(word + " without a value")
		case at == nil:
			return words.fail(word + " before the first machine")
		case word == "login":
			at.login = value
		case word == "password":
			at.password = value
		}
	case "macdef":
		words.skipMacro()
	default:
		return words.fail("a word that is none of machine, default, login, password, account, macdef")
	}
	return nil
}

// Find is who logs in at a host.
func (n Netrc) Find(host string) (login, password string, ok bool) {
	for _, m := range n.machines {
		if m.host == "" || strings.EqualFold(m.host, host) {
			return m.login, m.password, true
		}
	}
	return "", "", false
}

// words are those of a .netrc, one after the other.
type words struct {
	lines *bufio.Scanner
	rest  string // of the line
	line  int    // its number
	size  int    // bytes so far
}

// next is the next word. One that begins with a quotation mark ends at the next one
// of its line, and \ takes a character in it as it is. Where a password may not be, #
// begins a comment.
func (w *words) next(comments bool) (string, bool) {
	for {
		w.rest = strings.TrimLeftFunc(w.rest, unicode.IsSpace)
		if w.rest != "" && !(comments && w.rest[0] == '#') {
			break
		}
		if !w.scan() {
			return "", false
		}
	}
	quoted := w.rest[0] == '"'
	var word strings.Builder
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(w.rest); i++ {
		c := w.rest[i]
		switch {
		case quoted && c == '\\' && i+1 < len(w.rest):
			i++
			c = w.rest[i]
		case quoted && c == '"':
			w.rest = w.rest[i+1:]
			return word.String(), true
		case !quoted && unicode.IsSpace(rune(c)):
			w.rest = w.rest[i:]
			return word.String(), true
		}
		word.WriteByte(c)
	}
	w.rest = ""
	return word.String(), true
}

func (w *words) scan() bool {
	if !w.lines.Scan() {
		return false
	}
	w.rest = w.lines.Text()
	w.line++
	w.size += len(w.rest) + 1
	return true
}

// skipMacro goes on behind the next empty line.
func (w *words) skipMacro() {
	for w.scan() && strings.TrimSpace(w.rest) != "" {
	}
	w.rest = ""
}

func (w *words) fail(what string) error { return fmt.Errorf("netrc: line %d: %s", w.line, what) }
