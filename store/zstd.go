package store

import (
	"errors"
	"fmt"
	"sync"

	"caravel/chunker"

	"github.com/klauspost/compress/zstd"
)

// zstdBlock is the most plain bytes in one block of a frame.
const zstdBlock = 128 << 10

func unpackZstd(stored []byte, size int) (*buffer, error) {
	frame, err := scanZstd(stored)
	if err != nil {
		return nil, err
	}
	room := most(size)
	switch {
	case frame.size > int64(room):
		return nil, errTooLong
	case size == 0:
		room = int(min(int64(room), frame.most))
	}
	buf := newBuffer(room)
	plain, err := zstdDecoder().DecodeAll(stored, buf.b[:0:room+slack])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) || err == nil && len(plain) > room:
		err = errTooLong
	case err != nil && frame.size < 0: // the decoder has no error for the end of the room
		err = fmt.Errorf("unpacking to %d bytes: %w", room, err)
	}
	if err != nil {
		buf.free()
		return nil, err
	}
	buf.b = buf.b[:len(plain)]
	if len(plain) > 0 && &plain[0] != &buf.b[0] {
		copy(buf.b, plain) // the decoder does not promise to stay in its room
	}
	return buf, nil
}

// zstdFrame is what the headers of a frame say.
type zstdFrame struct {
	size int64 // of the plain bytes; -1: not said
	most int64 // that the plain bytes can be
}

// scanZstd goes through the headers of a frame and its blocks: the decoder
// would also accept several frames, and frames to be skipped.
func scanZstd(b []byte) (zstdFrame, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return zstdFrame{}, err
	}
	if h.DictionaryID != 0 {
		return zstdFrame{}, fmt.Errorf("needs dictionary %d", h.DictionaryID)
	}
	f := zstdFrame{size: -1}
	b = b[h.HeaderSize:]
	for last := false; !last; {
		if len(b) < 3 {
			return zstdFrame{}, errTruncated
		}
		head := uint(b[0]) | uint(b[1])<<8 | uint(b[2])<<16
		last = head&1 != 0
		stored, plain := int(head>>3), int64(head>>3)
		switch head >> 1 & 3 {
		case 1: // one byte, repeated
			stored = 1
		case 2: // compressed
			plain = zstdBlock
		}
		f.most += min(plain, zstdBlock)
		if b = b[3:]; len(b) < stored {
			return zstdFrame{}, errTruncated
		}
		b = b[stored:]
	}
	if h.HasCheckSum {
		if len(b) < 4 {
			return zstdFrame{}, errTruncated
		}
		b = b[4:]
	}
	if len(b) > 0 {
		return zstdFrame{}, errTrailing
	}
	if h.HasFCS {
		if h.FrameContentSize > uint64(f.most) {
			return zstdFrame{}, fmt.Errorf("%d bytes announced, in blocks for %d at most", h.FrameContentSize, f.most)
		}
		f.size = int64(h.FrameContentSize)
		f.most = f.size
	}
	return f, nil
}

// zstdDecoder decodes for all goroutines at once, as many as there are cores.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderLowmem(false), // keep the work space of a block
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(chunker.MaxSize))
	if err != nil {
		panic(err)
	}
	return d
})

func packZstd(plain []byte, level int) (*buffer, error) {
	if level == 0 {
		level = 3
	}
	enc := zstdEncoders[zstd.EncoderLevelFromZstd(level)]()
	buf := newBuffer(enc.MaxEncodedSize(len(plain)))
	buf.b = enc.EncodeAll(plain, buf.b)
	return buf, nil
}

// zstdEncoders are the library's levels; each encodes for all goroutines at
// once.
var zstdEncoders = [...]func() *zstd.Encoder{
	zstd.SpeedFastest:           zstdEncoder(zstd.SpeedFastest),
	zstd.SpeedDefault:           zstdEncoder(zstd.SpeedDefault),
	zstd.SpeedBetterCompression: zstdEncoder(zstd.SpeedBetterCompression),
	zstd.SpeedBestCompression:   zstdEncoder(zstd.SpeedBestCompression),
}

func zstdEncoder(level zstd.EncoderLevel) func() *zstd.Encoder {
	return sync.OnceValue(func() *zstd.Encoder {
		enc, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(level),
			zstd.WithEncoderConcurrency(0),
			zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderCRC(false),   // the ID is a better one
			zstd.WithSingleSegment(true), // then the frame always says its size
			zstd.WithZeroFrames(true))
		if err != nil {
			panic(err)
		}
		return enc
	})
}
