package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// A Cipher is an algorithm that chunks at rest are encrypted with.
type Cipher uint8

// The ciphers; docs/formats.md, section 9.5.
const (
	XChaCha20Poly1305 Cipher = iota // desync's default
	AES256GCM                       // a key is good for 4 billion chunks, as nonces are random
)

var ciphers = [...]struct {
	name string
	aead func(secret []byte) (cipher.AEAD, error)
}{
	XChaCha20Poly1305: {"xchacha20-poly1305", chacha20poly1305.NewX},
	AES256GCM:         {"aes-256-gcm", newGCM},
}

func newGCM(secret []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// String is the cipher's name in the names of chunks and on the command line.
func (c Cipher) String() string { return ciphers[c].name }

// ParseCipher reads a cipher's name.
func ParseCipher(s string) (Cipher, error) {
	for c, k := range ciphers {
		if k.name == s {
			return Cipher(c), nil
		}
	}
	return 0, fmt.Errorf("store: cipher %q: want xchacha20-poly1305 or aes-256-gcm", s)
}

// A Key encrypts the chunks of a store, for a [Form]: one cipher and one secret.
// It shows neither to anybody who prints it, but what it is called in the names
// of chunks. It may be used by many goroutines.
type Key struct {
	name string            // cipher and the first four bytes of sum
	sum  [sha256.Size]byte // of the secret
	aead cipher.AEAD       // without the secret, only good for its sizes
	hid  bool              // the secret is not known
}

// secretSize is how many bytes a secret has.
const secretSize = 32

// ParseKey makes a key of a secret of 64 hexadecimal digits, as desync takes it:
// these are the key, nothing is derived from them, so they must come from a
// source of random numbers. White space around them, such as a file's last line
// feed, does not count. No error shows them.
func ParseKey(c Cipher, secret string) (*Key, error) {
	raw, err := hex.DecodeString(strings.TrimSpace(secret))
	if err != nil || len(raw) != secretSize {
		return nil, fmt.Errorf("store: a key for %v is %d hexadecimal digits", c, 2*secretSize)
	}
	aead, err := ciphers[c].aead(raw)
	if err != nil {
		return nil, fmt.Errorf("store: key for %v: %w", c, err)
	}
	sum := sha256.Sum256(raw)
	return &Key{name: c.String() + "-" + hex.EncodeToString(sum[:4]), sum: sum, aead: aead}, nil
}

// NamedKey is a key of which no more is known than its name, as String has it: who has
// no secret can so pass on what others have encrypted, as it is. All else fails.
func NamedKey(name string) (*Key, error) {
	for c := range ciphers {
		sum, ok := strings.CutPrefix(name, Cipher(c).String()+"-")
		if b, err := hex.DecodeString(sum); !ok || err != nil || len(b) != 4 || sum != strings.ToLower(sum) {
			continue
		}
		aead, err := ciphers[c].aead(make([]byte, secretSize))
		if err != nil {
			return nil, err
		}
		return &Key{name: name, aead: aead, hid: true}, nil
	}
	return nil, fmt.Errorf("store: key %q: want a cipher, a hyphen and 8 hexadecimal digits, as behind the last dot of chunks' names", name)
}

// hidden reports whether only the name of k, which may be nil, is known.
func (k *Key) hidden() bool { return k != nil && k.hid }

// errHidden: there is no secret.
var errHidden = errors.New("only the name of the key is known")

// String is what stands behind the last dot in the names of the chunks that the
// key encrypts: the cipher and the first four bytes of the secret's SHA-256.
func (k *Key) String() string {
	if k == nil {
		return "none"
	}
	return k.name
}

// GoString keeps %#v from showing more than that.
func (k *Key) GoString() string { return "store.Key(" + k.name + ")" }

// LogValue keeps logs from showing more than that.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.name) }

// Same reports whether k and other, either of which may be nil, are one key.
func (k *Key) Same(other *Key) bool {
	if k == nil || other == nil {
		return k == other
	}
	return k.name == other.name && k.sum == other.sum
}

// suffix is what the key adds to the names of chunks.
func (k *Key) suffix() string {
	if k == nil {
		return ""
	}
	return "." + k.name
}

// overhead is what the key adds to the bytes of chunks.
func (k *Key) overhead() int {
	if k == nil {
		return 0
	}
	return k.aead.NonceSize() + k.aead.Overhead()
}

// seal encrypts b: a random nonce, what b becomes, and the tag.
func (k *Key) seal(b []byte) *buffer {
	if k.hid {
		panic("store: nothing can be encrypted with a key of which only the name is known")
	}
	buf := newBuffer(len(b) + k.overhead())
	nonce := buf.b[:k.aead.NonceSize()]
	_, _ = rand.Read(nonce) // which never fails
	buf.b = k.aead.Seal(nonce, nonce, b, nil)
	return buf
}

// errTampered: that is not what came out of seal.
var errTampered = errors.New("authentication failed: damaged, or not encrypted with this key")

// open decrypts what seal has made.
func (k *Key) open(sealed []byte) (*buffer, error) {
	if k.hid {
		return nil, errHidden
	}
	if len(sealed) < k.overhead() {
		return nil, fmt.Errorf("%s: %w", k.name, errTruncated)
	}
	nonce, rest := sealed[:k.aead.NonceSize()], sealed[k.aead.NonceSize():]
	buf := newBuffer(len(sealed) - k.overhead())
	b, err := k.aead.Open(buf.b, nonce, rest, nil)
	if err != nil {
		buf.free()
		return nil, fmt.Errorf("%s: %w", k.name, errTampered)
	}
	buf.b = b
	return buf, nil
}
