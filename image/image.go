// Package image handles whole images: it makes one of a stream ([Make]),
// writes one to a file, a block device or a pipe ([Extract], [Stream]), copies
// the chunks of one from store to store ([Copy]), verifies all that a store holds
// ([Verify]), and finds where the content of a block device or file ends
// ([OpenSource]).
//
// Work is done by pipelines whose stages hold a bounded number of bytes, so
// memory does not grow with the image. What appears under its final name is
// complete; what an interrupted run leaves behind is continued by the next.
//
//	src, err := image.OpenSource("/dev/vg/root", image.SourceOptions{})
//	made, err := image.Make(ctx, src, castr, image.MakeOptions{})
//	err = image.Extract(ctx, made.Index, castr, "root.img", image.ExtractOptions{})
package image

import (
	"bytes"

	"caravel/chunker"
)

// inFlightBytes bounds the plain bytes that a pipeline holds at one time; one
// chunk is always allowed.
const inFlightBytes = 32 << 20

// blank is compared with; a chunk is walked through in steps of its length.
var blank [64 << 10]byte

// isZero reports whether b holds nothing but zeros.
func isZero(b []byte) bool {
	for len(b) > len(blank) {
		if !bytes.Equal(b[:len(blank)], blank[:]) {
			return false
		}
		b = b[len(blank):]
	}
	return bytes.Equal(b, blank[:len(b)])
}

// zeroID is the ID of n zeros. A pipeline asks once, for the largest chunk of
// its image: only those repeat.
func zeroID(d chunker.Digest, n int) chunker.ID {
	h := d.New()
	for ; n > 0; n -= min(n, len(blank)) {
		h.Write(blank[:min(n, len(blank))])
	}
	return chunker.ID(h.Sum(nil))
}
