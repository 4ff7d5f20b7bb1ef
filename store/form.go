package store

import (
	"fmt"
	"strings"

	"caravel/chunker"
)

// A Form is how chunks lie in a store: their packing and their names. The zero
// value is casync's default: zstd under abcd/abcd….cacnk.
type Form struct {
	Compression Compression // how Put packs chunks; Get recognises all
	Level       int         // of the compression; 0: the compression's default
	Suffix      string      // of compressed chunks; "": .cacnk
	Either      bool        // look for plain and compressed chunks, for this form's first
}

// Name is the name of a chunk's object: the first four digits of its ID, a
// slash, the ID and the suffix (none for plain chunks).
func (f Form) Name(id chunker.ID) string {
	text := id.String()
	name := text[:4] + "/" + text
	switch {
	case f.Compression == None:
		return name
	case f.Suffix == "":
		return name + ".cacnk"
	}
	return name + f.Suffix
}

// all are the forms under whose names a chunk may lie, f first.
func (f Form) all() []Form {
	if !f.Either {
		return []Form{f}
	}
	other := f
	if f.Compression == None {
		other.Compression = Zstd
	} else {
		other.Compression = None
	}
	return []Form{f, other}
}

// valid checks what Put needs.
func (f Form) valid() error {
	if f.Level < 0 || f.Level > packings[f.Compression].maxLevel {
		return fmt.Errorf("store: compression %v:%d: %w", f.Compression, f.Level, levelError(packings[f.Compression].maxLevel))
	}
	return nil
}

// Limit is the most bytes that a chunk of the given size (0: unknown) can take
// in the store. What does not compress grows a little, the more the smaller
// the pieces were that its writer handed on.
func (f Form) Limit(size int) int {
	plain := most(size)
	if f.Compression == None {
		return plain
	}
	return plain + plain/4 + 4<<10
}

// Begins reports whether what a store of this form keeps of a chunk may begin with
// head, its first bytes, of which four are enough.
func (f Form) Begins(head []byte) bool {
	magic := packings[f.Compression].magic
	return len(head) > 0 && strings.HasPrefix(string(head), magic[:min(len(magic), len(head))])
}

// plausible tells by an object's size (-1: unknown) whether it may be the chunk.
func (f Form) plausible(object int64, size int) bool {
	switch {
	case object < 0:
		return true
	case f.Compression == None && size > 0:
		return object == int64(size)
	}
	return object > 0 && object <= int64(f.Limit(size))
}
