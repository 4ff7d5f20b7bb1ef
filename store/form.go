package store

import (
	"cmp"
	"fmt"
	"strings"

	"caravel/chunker"
)

// A Form is how chunks lie in a store: their packing, their encryption and their
// names. The zero value is casync's default: zstd under abcd/abcd….cacnk. What is
// encrypted is packed first.
type Form struct {
	Compression Compression // how Put packs chunks; Get recognises all
	Level       int         // of the compression; 0: the compression's default
	Suffix      string      // of compressed chunks; "": .cacnk
	Either      bool        // look for plain and compressed chunks, for this form's first
	Key         *Key        // what chunks are encrypted with; nil: they are not
}

// Name is the name of a chunk's object: the first four digits of its ID, a
// slash, the ID and the suffix (none for plain chunks), and for encrypted ones a
// dot and what their key is called.
func (f Form) Name(id chunker.ID) string { return bareName(id) + f.ending() }

// bareName is what the names of all of a chunk's objects begin with.
func bareName(id chunker.ID) string {
	text := id.String()
	return text[:4] + "/" + text
}

// ending is what stands behind the ID in a name.
func (f Form) ending() string {
	if f.Compression == None {
		return f.Key.suffix()
	}
	return cmp.Or(f.Suffix, ".cacnk") + f.Key.suffix()
}

// Named is what the name of a chunk's object says, where compressed ones end in
// .cacnk.
type Named struct {
	ID     chunker.ID
	Packed bool   // compressed
	Key    string // what the key is called that encrypts it; "": none
}

// ParseName reads the name of an object. ok is false if it is not a chunk's.
func ParseName(name string) (n Named, ok bool) {
	folder, text, _ := strings.Cut(name, "/")
	const digits = 2 * len(n.ID)
	if len(text) < digits || folder != text[:4] || strings.ToLower(text[:digits]) != text[:digits] {
		return Named{}, false
	}
	var err error
	if n.ID, err = chunker.ParseID(text[:digits]); err != nil {
		return Named{}, false
	}
	rest := text[digits:]
	if n.Key = keyOf(rest); n.Key != "" {
		rest = strings.TrimSuffix(rest, "."+n.Key)
	}
	n.Packed = rest == ".cacnk"
	return n, n.Packed || rest == ""
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
		return plain + f.Key.overhead()
	}
	return plain + plain/4 + 4<<10 + f.Key.overhead()
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
		return object == int64(size+f.Key.overhead())
	}
	return object > int64(f.Key.overhead()) && object <= int64(f.Limit(size))
}
