package store

import "caravel/chunker"

// A Form is how chunks lie in a store: their packing and their names. The zero
// value is casync's default: zstd under abcd/abcd….cacnk.
type Form struct {
	Compression Compression // how Put packs chunks; Get recognises all
	Level       int         // of the compression; 0: the compression's default
	Suffix      string      // of compressed chunks; "": .cacnk
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
