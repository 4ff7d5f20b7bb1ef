package chunker

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"

	"caravel/internal/multisum"
)

// An ID names a chunk: the digest of its plain bytes.
type ID [32]byte

// String is the text form of an ID: 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes the text form what JSON and flags show.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads the text form; see [ParseID].
func (id *ID) UnmarshalText(text []byte) error {
	got, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = got
	return nil
}

// ParseID reads 64 hexadecimal digits of either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return ID{}, fmt.Errorf("chunker: ID %q: want 64 hexadecimal digits, not %d characters", s, len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("chunker: ID %q: %w", s, err)
	}
	return id, nil
}

// A Digest is the algorithm that turns bytes into an ID. It is a value: two
// images with different algorithms live in one process.
type Digest uint8

// The two algorithms that an index can name.
const (
	SHA512_256 Digest = iota // FIPS 180-4 SHA-512/256, the default
	SHA256
)

// String is the algorithm's name on the command line.
func (d Digest) String() string {
	if d == SHA256 {
		return "sha256"
	}
	return "sha512-256"
}

// ParseDigest reads a name as the command line has it; "default" is SHA-512/256.
func ParseDigest(s string) (Digest, error) {
	switch s {
	case "sha512-256", "default":
		return SHA512_256, nil
	case "sha256":
		return SHA256, nil
	}
	return 0, fmt.Errorf("chunker: digest %q: want sha512-256 or sha256", s)
}

// Sum is the ID of b. It allocates nothing and may be called at once from many
// goroutines.
func (d Digest) Sum(b []byte) ID {
	if d == SHA256 {
		return sha256.Sum256(b)
	}
	return sha512.Sum512_256(b)
}

// SumsAtOnce is how many messages Sums wants to have: more make it no faster.
const SumsAtOnce = 32

// Sums sets ids to those of the messages, of which there are as many. Of several it takes
// a fraction of the time that Sum takes for each: see internal/multisum.
func (d Digest) Sums(ids []ID, messages [][]byte) {
	ids = ids[:len(messages)]
	if d == SHA256 || len(messages) < 2 { // of SHA-256, processors know more than of SHA-512
		for i, m := range messages {
			ids[i] = d.Sum(m)
		}
		return
	}
	var sums [SumsAtOnce][multisum.Size]byte
	for len(messages) > 0 {
		n := min(len(messages), len(sums))
		multisum.Sum(sums[:n], messages[:n])
		for i, sum := range sums[:n] {
			ids[i] = sum
		}
		ids, messages = ids[n:], messages[n:]
	}
}

// New returns a running hash whose Sum has the 32 bytes of an ID.
func (d Digest) New() hash.Hash {
	if d == SHA256 {
		return sha256.New()
	}
	return sha512.New512_256()
}
