package store

import "errors"

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

// sniff tells by the first bytes how stored is packed; None: unknown.
func sniff(stored []byte) Compression { return None }

// decompress unpacks exactly one frame that fills all of stored.
func decompress(stored []byte, size, limit int) (plain []byte, free func(), err error) {
	return nil, nil, errors.ErrUnsupported
}

// compress packs plain into one frame.
func compress(plain []byte, form Compression) (stored []byte, free func(), err error) {
	return nil, nil, errors.ErrUnsupported
}
