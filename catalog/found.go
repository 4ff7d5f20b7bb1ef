package catalog

import (
	"log/slog"

	"caravel/store/diskcache"
)

// KeepFound has what is found out about an image kept in disk, although its index is
// on this machine: somebody's chunks are not, and it took many of them. Of an index
// that came over a network that is done anyway. It is called before anything is asked
// of the image.
func (img *Image) KeepFound(disk *diskcache.Cache) {
	if img.Remote || img.Index == nil || disk == nil {
		return
	}
	img.found = &found{disk: disk, log: img.opt.Log, index: sumOf(img.Index)}
}

// A found keeps what is known of an index, by its digest, so that a copy of it, or
// another name, is the same, and another version under its name is not: the side
// files that were supplied, and which ones were confirmed. Those beside the index are
// not kept, and count for more. A nil one keeps nothing.
type found struct {
	disk  *diskcache.Cache
	log   *slog.Logger
	index string // as in record
}

// name is that of a side file, and confirmation that of the digest of the one which
// is right.
func (f *found) name(ending string) string         { return "found/" + f.index + ending }
func (f *found) confirmation(ending string) string { return f.name(ending) + ".right" }

// supply keeps a side file.
func (f *found) supply(ending string, content []byte) {
	if f != nil {
		f.note(f.disk.WriteFile(f.name(ending), content))
	}
}

// supplied is what was kept; nil: nothing.
func (f *found) supplied(ending string) []byte {
	if f == nil {
		return nil
	}
	content, err := f.disk.ReadFile(f.name(ending), sideLimit)
	if err != nil {
		return nil
	}
	return content
}

// drop forgets a side file.
func (f *found) drop(ending string) {
	if f != nil {
		f.note(f.disk.Remove(f.name(ending)))
	}
}

func (f *found) confirm(ending string, content []byte) {
	f.note(f.disk.WriteFile(f.confirmation(ending), []byte(sumOfSide(content))))
}

func (f *found) confirmed(ending string, content []byte) bool {
	sum, err := f.disk.ReadFile(f.confirmation(ending), recordLimit)
	return err == nil && string(sum) == sumOfSide(content)
}

// note says that something is not kept, which is no reason to stop.
func (f *found) note(err error) {
	if err != nil {
		f.log.Debug("not kept", "index", f.index, "err", err)
	}
}
