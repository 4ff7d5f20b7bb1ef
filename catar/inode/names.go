package inode

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
)

// names are the users and groups of this machine, each file read at the first
// question.
type names struct {
	users  func() (*roll, error)
	groups func() (*roll, error)
}

func newNames(passwd, group string) names {
	read := func(path string) func() (*roll, error) {
		return sync.OnceValues(func() (*roll, error) { return readRoll(path) })
	}
	return names{users: read(passwd), groups: read(group)}
}

// IDs are the numbers that the users and groups of this machine have, by their names.
// Each file is read once.
type IDs struct{ names }

// LocalIDs are those of /etc/passwd and /etc/group.
func LocalIDs() *IDs { return &IDs{newNames("/etc/passwd", "/etc/group")} }

// User is the number of a user; an error says that this cannot be known. A number as
// a name is itself, as archives without numbers have it.
func (i *IDs) User(name string) (id uint32, ok bool, err error) { return numberOf(name, i.users) }

// Group is the number of a group.
func (i *IDs) Group(name string) (id uint32, ok bool, err error) { return numberOf(name, i.groups) }

func numberOf(name string, who func() (*roll, error)) (uint32, bool, error) {
	all, err := who()
	if err != nil {
		return 0, false, err
	}
	if id, ok := all.byName[name]; ok {
		return id, true, nil
	}
	id, err := strconv.ParseUint(name, 10, 32)
	return uint32(id), err == nil, nil
}

// A roll is one of the files, both ways. It does not change.
type roll struct {
	byID   map[uint32]string
	byName map[string]uint32
}

// readRoll reads a file in the form of /etc/passwd or /etc/group. A machine
// without it has no names. As in the C library, the first of two equal lines
// counts, and lines that refer to elsewhere (+, -) are skipped.
func readRoll(path string) (*roll, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	r := &roll{byID: make(map[uint32]string), byName: make(map[string]uint32)}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 4)
		if len(fields) < 3 || fields[0] == "" || strings.ContainsAny(fields[0][:1], "#+-") {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		if _, known := r.byID[uint32(id)]; !known {
			r.byID[uint32(id)] = fields[0]
		}
		if _, known := r.byName[fields[0]]; !known {
			r.byName[fields[0]] = uint32(id)
		}
	}
	return r, nil
}

// storable reports whether readers of archives take name: letters, digits, _
// and -, beginning with a letter or _. "root" is id 0, which needs no name.
func storable(name string) bool {
	if name == "" || len(name) > 255 || name == "root" || name[0] == '-' || isDigit(name[0]) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !isDigit(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
