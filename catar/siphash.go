package catar

import (
	"encoding/binary"
	"math/bits"
)

// The key of the tables' hashes; docs/formats.md, section 4.8.
const (
	sipKey0 = 0x8574442b0f1d84b3
	sipKey1 = 0x2736ed30d1c22ec1
)

// hashName is SipHash-2-4 of a name, by which a table lists it. The key being
// known, it protects from nothing: whoever has 2^32 tries to spend finds two
// names with one hash.
func hashName(name string) uint64 {
	s := sipState{
		sipKey0 ^ 0x736f6d6570736575,
		sipKey1 ^ 0x646f72616e646f6d,
		sipKey0 ^ 0x6c7967656e657261,
		sipKey1 ^ 0x7465646279746573,
	}
	last := uint64(len(name)) << 56
	for ; len(name) >= 8; name = name[8:] {
		s.mix(uint64(name[0]) | uint64(name[1])<<8 | uint64(name[2])<<16 | uint64(name[3])<<24 |
			uint64(name[4])<<32 | uint64(name[5])<<40 | uint64(name[6])<<48 | uint64(name[7])<<56)
	}
	var tail [8]byte
	copy(tail[:], name)
	s.mix(last | binary.LittleEndian.Uint64(tail[:]))

	s[2] ^= 0xff
	for range 4 {
		s.round()
	}
	return s[0] ^ s[1] ^ s[2] ^ s[3]
}

type sipState [4]uint64

func (s *sipState) mix(word uint64) {
	s[3] ^= word
	s.round()
	s.round()
	s[0] ^= word
}

func (s *sipState) round() {
	s[0] += s[1]
	s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
	s[0] = bits.RotateLeft64(s[0], 32)
	s[2] += s[3]
	s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
	s[0] += s[3]
	s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
	s[2] += s[1]
	s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
	s[2] = bits.RotateLeft64(s[2], 32)
}
