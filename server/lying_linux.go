package server

import "caravel/store"

// A filer is a handler that can say with which file, as it lies, it would answer GET of
// a path without any condition.
type filer interface {
	// lies opens that file. false: it would answer otherwise, or it cannot be told.
	lies(path []byte) (lying, bool)
}

// A lying is an open file that is an answer. Who has it closes it.
type lying struct {
	fd    int
	info  store.Info
	tag   string
	cache string // how long it may be kept

	// is tells by the first bytes of it, at least four if it has as many, whether it is
	// the answer after all.
	is func(head []byte) bool
}

var _ filer = (*chunks)(nil)

// lies opens a chunk that sendFile would send.
func (h *chunks) lies(path []byte) (lying, bool) {
	if !h.names(path) {
		return lying{}, false
	}
	name := string(path[1:])
	for _, folder := range h.opt.Files {
		d, ok := folder.(Descriptors)
		if !ok {
			return lying{}, false
		}
		fd, info, err := d.Descriptor(name)
		if err != nil {
			continue // who goes on says what is wrong with it
		}
		if !h.fits(info.Size) {
			closeFile(fd)
			return lying{}, false
		}
		return lying{fd, info, h.fileTag(name[len("abcd/"):], info), h.cache, h.begins}, true
	}
	return lying{}, false
}

// names reports whether a path is that of a chunk here, as id has it.
func (h *chunks) names(path []byte) bool {
	const folder, digits = len("/abcd/"), 64
	ending := h.ending
	if len(path) != folder+digits+len(ending) || string(path[folder+digits:]) != ending {
		return false
	}
	if path[0] != '/' || path[5] != '/' || string(path[1:5]) != string(path[folder:folder+4]) {
		return false
	}
	for _, c := range path[folder : folder+digits] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
