//go:build unix

package diskcache

import (
	"time"

	"golang.org/x/sys/unix"
)

// walk calls visit for each file of ours, until that returns false. It returns
// the bytes on disk of all there is, with folders and what is unfinished.
func (p *place) walk(visit func(f found) bool) int64 {
	w := walker{place: p, visit: visit}
	for room := range p.rooms {
		w.folder(name{room: room}, true)
	}
	w.others(".")
	w.others(tmpName)
	if st, err := statAt(p.root, "."); err == nil {
		w.bytes += st.Blocks * 512
	}
	return w.bytes
}

type walker struct {
	*place
	visit func(f found) bool
	bytes int64
	over  bool
}

// others counts what is not visited: the mark, folders, what is unfinished.
func (w *walker) others(dir string) {
	names, err := list(w.root, dir)
	if err != nil {
		return
	}
	for _, name := range names {
		if st, err := statAt(w.root, dir+"/"+name); err == nil {
			w.bytes += st.Blocks * 512
		}
	}
}

// folder visits the files in a room, and in its folders if n is the room.
func (w *walker) folder(n name, room bool) {
	dir, err := w.place.folder(n, false)
	if err != nil {
		return
	}
	defer w.done(n, dir)
	names, err := list(dir, ".")
	if err != nil {
		return
	}
	groups := alone(names)
	if n.room == imageRoom {
		groups = together(names)
	}
	for group := range groups {
		f := found{name: name{n.room, n.folder, group[0]}, dir: dir, beside: group[1:]}
		for _, file := range group {
			st, err := statAt(dir, file)
			switch {
			case err != nil: // removed meanwhile
			case st.Mode&unix.S_IFMT != unix.S_IFDIR:
				f.add(st.Blocks*512, time.Unix(st.Mtim.Unix()))
			case room:
				w.bytes += st.Blocks * 512
				w.folder(name{room: n.room, folder: file}, false)
			}
		}
		if f.used.IsZero() {
			continue // a folder
		}
		w.bytes += f.bytes
		if w.over = w.over || !w.visit(f); w.over {
			return
		}
	}
}

func statAt(dir int, name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func unlink(dir int, name string) error { return unix.Unlinkat(dir, name, 0) }
