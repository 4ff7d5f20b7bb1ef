package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"caravel/chunker"
)

// Compression is how a chunk's bytes are packed. The compression level is the
// form's concern, see [Form].
type Compression uint8

// The ways to pack a chunk; docs/formats.md, section 2.3.
const (
	Zstd Compression = iota // the default of casync and desync
	XZ                      // not read by desync
	Gzip                    // not read by desync
	None                    // plain bytes, under a name without suffix
)

// packings is what differs between them. The first bytes tell which one it is,
// never the name.
var packings = [...]struct {
	name     string
	magic    string
	maxLevel int
	unpack   func(stored []byte, size int) (*buffer, error)
	pack     func(plain []byte, level int) (*buffer, error)
}{
	Zstd: {"zstd", "\x28\xb5\x2f\xfd", 22, unpackZstd, packZstd},
	XZ:   {"xz", "\xfd7zXZ\x00", 9, unpackXZ, packXZ},
	Gzip: {"gzip", "\x1f\x8b", 9, unpackGzip, packGzip},
	None: {name: "none"},
}

// longestMagic is how many bytes must be there before they count as unknown.
const longestMagic = 6

// String is the compression's name on the command line.
func (c Compression) String() string { return packings[c].name }

// ParseCompression reads zstd, xz, gzip or none, the first three also with a
// level (zstd:19). Level 0 is the compression's default.
func ParseCompression(s string) (c Compression, level int, err error) {
	name, text, hasLevel := strings.Cut(s, ":")
	for c, p := range packings {
		if p.name != name {
			continue
		}
		if !hasLevel {
			return Compression(c), 0, nil
		}
		level, err := strconv.Atoi(text)
		if err != nil || level < 1 || level > p.maxLevel {
			return 0, 0, fmt.Errorf("store: compression %q: %w", s, levelError(p.maxLevel))
		}
		return Compression(c), level, nil
	}
	return 0, 0, fmt.Errorf("store: compression %q: want zstd, xz, gzip or none", s)
}

func levelError(most int) error {
	if most == 0 {
		return errors.New("there are no levels")
	}
	return fmt.Errorf("want a level from 1 to %d", most)
}

// sniff tells by the first bytes how stored is packed.
func sniff(stored []byte) (Compression, error) {
	for c, p := range packings {
		if p.magic != "" && strings.HasPrefix(string(stored[:min(len(stored), longestMagic)]), p.magic) {
			return Compression(c), nil
		}
	}
	if len(stored) < longestMagic {
		return None, errTruncated
	}
	return None, fmt.Errorf("no known compression (starts with %x)", stored[:longestMagic])
}

// What is wrong with packed bytes.
var (
	errTruncated = errors.New("truncated")
	errTrailing  = errors.New("bytes after the compressed data")
)

// decompress unpacks exactly one frame that fills all of stored. It neither
// allocates nor makes more than the chunk's size; size 0 is unknown and stands
// for the most that a chunk may have.
func decompress(stored []byte, size int) (*buffer, error) {
	c, err := sniff(stored)
	if err != nil {
		return nil, err
	}
	plain, err := packings[c].unpack(stored, size)
	if err == nil {
		return plain, nil
	}
	if errors.Is(err, errTooLong) {
		return nil, tooLong(size)
	}
	return nil, fmt.Errorf("%v: %w", c, err)
}

func tooLong(size int) error {
	if size == 0 {
		return fmt.Errorf("expands to more than %d bytes", chunker.MaxSize)
	}
	return fmt.Errorf("expands to more than the %d bytes of the index", size)
}

// most is the number of bytes that a chunk of the given size, or of unknown
// size, may have.
func most(size int) int {
	if size == 0 {
		return chunker.MaxSize
	}
	return size
}

// compress packs plain into one frame.
func compress(plain []byte, c Compression, level int) (*buffer, error) {
	if level < 0 || level > packings[c].maxLevel {
		return nil, fmt.Errorf("store: compression %v:%d: %w", c, level, levelError(packings[c].maxLevel))
	}
	stored, err := packings[c].pack(plain, level)
	if err != nil {
		return nil, fmt.Errorf("store: compression %v:%d: %w", c, level, err)
	}
	return stored, nil
}
