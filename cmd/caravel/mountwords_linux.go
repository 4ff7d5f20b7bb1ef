package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/catar"
	"caravel/catar/inode"
)

// mountWords are what -o takes: the words of mount(8), for all that is mounted, and
// the flags of the command by their names, so that a line of /etc/fstab can have them.
type mountWords struct {
	words []string
	masks masks
}

func mountWordsFlag(to *mountWords) cli.Flag {
	return &cli.GenericFlag{
		Name:    "options",
		Aliases: []string{"o"},
		Usage:   "mount with the `WORDS` of mount(8), separated by commas: noexec, uid=, umask= …; and with any flag here by its name: cache-size=2G",
		Value:   to,
	}
}

func (w *mountWords) Set(s string) error {
	if s == again {
		return nil
	}
	words, err := splitWords(s)
	w.words = append(w.words, words...)
	return err
}

func (*mountWords) String() string    { return "" }
func (*mountWords) Serialize() string { return again }

// splitWords splits at commas; one behind a backslash or between quotes is no end, as
// labels have them.
func splitWords(s string) ([]string, error) {
	var all []string
	var word strings.Builder
	quoted, escaped := false, false
	for _, c := range []byte(s) {
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			all = append(all, word.String())
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	if quoted || escaped {
		return nil, errors.New("ends in the middle of a word")
	}
	all = append(all, word.String())
	return slices.DeleteFunc(all, func(s string) bool { return s == "" }), nil
}

// withoutEffect are words for whoever mounts, or of what an image has not: times of
// its own, and writers. "rw" is what mount(8) says where nobody said anything.
var withoutEffect = map[string]bool{
	"defaults": true, "auto": true, "noauto": true, "nofail": true, "_netdev": true,
	"user": true, "nouser": true, "users": true, "owner": true, "group": true, "comment": true,
	"ro": true, "rw": true, "default_permissions": true, "subtype": true,
	"atime": true, "noatime": true, "diratime": true, "nodiratime": true, "relatime": true, "norelatime": true,
	"strictatime": true, "nostrictatime": true, "lazytime": true, "nolazytime": true, "iversion": true, "noiversion": true,
	"sync": true, "async": true, "dirsync": true, "silent": true, "loud": true, "mand": true, "nomand": true,
}

// apply does what the words say.
func (w *mountWords) apply(c *cli.Context, opt *mountOptions) error {
	sloppy := slices.Contains(w.words, sloppyWord)
	for _, word := range w.words {
		name, value, given := strings.Cut(word, "=")
		switch set := showWords[name]; {
		case withoutEffect[name] || name == sloppyWord || strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-"):
		case set != nil:
			if err := set(opt, value); err != nil {
				return usagef("-o %s: %v", word, err)
			}
		default:
			err := w.flag(c, name, value, given)
			if err != nil && !(sloppy && errors.Is(err, errNoWord)) {
				return usagef("-o %s: %v", word, err)
			}
		}
	}
	opt.show.Look.Perm = w.masks.perm()
	return nil
}

var errNoWord = errors.New("no such option; see caravel mount --help")

// flag sets a flag of the command by its name.
func (w *mountWords) flag(c *cli.Context, name, value string, given bool) error {
	for _, f := range c.Command.Flags {
		if f.Names()[0] != name || name == "options" {
			continue
		}
		if _, yesNo := f.(switchFlag); !given && yesNo {
			value = showYesNo(true)
		} else if !given {
			return fmt.Errorf("needs a value")
		}
		return c.Set(name, value)
	}
	return errNoWord
}

// showWords are the words that a mount has, whatever is mounted.
var showWords = map[string]func(opt *mountOptions, value string) error{
	"nosuid":      func(opt *mountOptions, _ string) error { opt.show.SetID = false; return nil },
	"suid":        func(opt *mountOptions, _ string) error { opt.show.SetID = true; return rootOnly() },
	"nodev":       func(opt *mountOptions, _ string) error { opt.show.Devices = false; return nil },
	"dev":         func(opt *mountOptions, _ string) error { opt.show.Devices = true; return rootOnly() },
	"noexec":      func(opt *mountOptions, _ string) error { opt.show.NoExec = true; return nil },
	"exec":        func(opt *mountOptions, _ string) error { opt.show.NoExec = false; return nil },
	"allow_other": func(opt *mountOptions, _ string) error { opt.show.Others = true; return nil },
	"fsname":      func(opt *mountOptions, value string) error { opt.show.FSName = value; return nil },

	"context":     label("context"),
	"fscontext":   label("fscontext"),
	"defcontext":  label("defcontext"),
	"rootcontext": label("rootcontext"),

	"uid": func(opt *mountOptions, value string) (err error) {
		opt.show.Look.UID, err = always(value, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		return err
	},
	"gid": func(opt *mountOptions, value string) (err error) {
		opt.show.Look.GID, err = always(value, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		return err
	},
	"umask": func(opt *mountOptions, value string) error { return opt.words.masks.set("umask", value) },
	"fmask": func(opt *mountOptions, value string) error { return opt.words.masks.set("fmask", value) },
	"dmask": func(opt *mountOptions, value string) error { return opt.words.masks.set("dmask", value) },
}

func rootOnly() error {
	if os.Geteuid() != 0 {
		return errors.New("only root may say so")
	}
	return nil
}

// selinux is there where the kernel takes labels.
const selinux = "/sys/fs/selinux"

// label hands a label on, where there are any: mount(8) leaves it out, too, where
// there are none.
func label(name string) func(*mountOptions, string) error {
	return func(opt *mountOptions, value string) error {
		if _, err := os.Stat(selinux); err != nil {
			return nil
		}
		opt.show.Labels = append(opt.show.Labels, fmt.Sprintf("%s=%q", name, value))
		return nil
	}
}

// always gives everything to one, who is named or numbered.
func always(who string, lookup func(name string) (string, error)) (func(uint32, string) uint32, error) {
	number := who
	if _, err := strconv.ParseUint(who, 10, 32); err != nil {
		if number, err = lookup(who); err != nil {
			return nil, err
		}
	}
	id, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return nil, err
	}
	return func(uint32, string) uint32 { return uint32(id) }, nil
}

// masks are the permissions that files and directories do not have, and have all
// others; as in FUSE and FAT.
type masks map[string]uint32

func (m *masks) set(name, value string) error {
	mask, err := strconv.ParseUint(value, 8, 32)
	if err != nil || mask > 0o777 {
		return errors.New("want permissions as 022")
	}
	if *m == nil {
		*m = masks{}
	}
	(*m)[name] = uint32(mask)
	return nil
}

// perm are the permissions for a mode, or nil if they are the entry's own.
func (m masks) perm() func(mode uint32) uint32 {
	if len(m) == 0 {
		return nil
	}
	of := maps.Clone(m)
	return func(mode uint32) uint32 {
		name := "fmask"
		if isDirMode(mode) {
			name = "dmask"
		}
		mask, ok := of[name]
		if !ok {
			mask, ok = of["umask"]
		}
		if !ok {
			return mode & 0o7777
		}
		return 0o777 &^ mask
	}
}

// owners are whose the entries are that are shown: everybody's one, or those of their
// names, or of their numbers, moved.
func (o *mountOptions) owners() error {
	shift, err := o.shift.id()
	if err != nil {
		return err
	}
	if shift == nil && !o.names {
		return nil
	}
	if shift == nil {
		shift = func(n uint32) uint32 { return n }
	}
	by := func(number func(string) (uint32, bool, error)) func(uint32, string) uint32 {
		return func(id uint32, name string) uint32 {
			if name != "" && o.names {
				if here, ok, err := number(name); ok && err == nil {
					return here
				}
			}
			return shift(id)
		}
	}
	ids := inode.LocalIDs()
	if _, _, err := ids.User("root"); err != nil && o.names {
		return fmt.Errorf("--map-names: %w", err)
	}
	if _, _, err := ids.Group("root"); err != nil && o.names {
		return fmt.Errorf("--map-names: %w", err)
	}
	if o.show.Look.UID == nil {
		o.show.Look.UID = by(ids.User)
	}
	if o.show.Look.GID == nil {
		o.show.Look.GID = by(ids.Group)
	}
	return nil
}

func isDirMode(mode uint32) bool { return mode&catar.ModeType == catar.ModeDir }
