package tree

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"

	"github.com/klauspost/compress/zstd"

	"caravel/catar"
	"caravel/feature"
)

// A Skimmer takes an archive as it is written, from its first byte to its last,
// and keeps what goes into a sidecar: everything but the bytes of payloads and
// of tables, compressed as it comes. Beside cutting and digesting that is next
// to nothing (BenchmarkSkimmer). One goroutine writes.
type Skimmer struct {
	strip *catar.Stripper
	to    *packer
	err   error
}

// NewSkimmer is one to which nothing was written.
func NewSkimmer() *Skimmer {
	p, err := newPacker(maxBody)
	return &Skimmer{strip: catar.NewStripper(p), to: p, err: err}
}

// Write takes the archive's next bytes. It never fails, since a sidecar is no
// reason for an image not to be made: what is wrong is said by Sidecar.
func (s *Skimmer) Write(p []byte) (int, error) {
	if s.err == nil {
		_, s.err = s.strip.Write(p)
	}
	return len(p), nil
}

// Sidecar returns the file, bound to the index whose file has the SHA-512/256
// index, after the last byte was written; an error if what was written is no
// whole archive, or one that no sidecar can have: with bytes behind the root, as
// desync's may have, or with too much that is the same.
func (s *Skimmer) Sidecar(index [32]byte) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.to.file(index, s.strip.Offset())
}

// A packer compresses a bare stream. It does so the same way each time, so that
// equal streams make equal files.
type packer struct {
	z    *zstd.Encoder
	body bytes.Buffer
	most int    // bytes of body; what gets longer is given up at once
	buf  []byte // on its way to z, which is slow with small pieces
}

const packStep = 64 << 10

func newPacker(most int) (*packer, error) {
	p := &packer{most: most, buf: make([]byte, 0, packStep)}
	var err error
	p.z, err = zstd.NewWriter(&p.body,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderCRC(false), // the header has a digest
		zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true))
	return p, err
}

func (p *packer) Write(b []byte) (int, error) {
	if len(p.buf)+len(b) > packStep {
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	if len(b) > packStep {
		return len(b), p.pack(b)
	}
	p.buf = append(p.buf, b...)
	return len(b), nil
}

func (p *packer) flush() error {
	err := p.pack(p.buf)
	p.buf = p.buf[:0]
	return err
}

func (p *packer) pack(b []byte) error {
	if _, err := p.z.Write(b); err != nil {
		return err
	}
	return p.few()
}

// few refuses a body that has grown too long.
func (p *packer) few() error {
	if p.body.Len() <= p.most {
		return nil
	}
	p.body = bytes.Buffer{}
	return refused("more than %d bytes", p.most)
}

// file ends the stream, that of an archive of size bytes, and returns the whole
// file. It is read once more first: what is written can be read.
func (p *packer) file(index [32]byte, size int64) ([]byte, error) {
	if err := p.flush(); err != nil {
		return nil, err
	}
	if err := p.z.Close(); err != nil {
		return nil, err
	}
	if err := p.few(); err != nil {
		return nil, err
	}
	if size <= 0 || size > maxArchive {
		return nil, refused("of an archive of %d bytes", size)
	}
	body := p.body.Bytes()
	if err := unpack(body, size, func(*catar.Node, feature.Flags) error { return nil }, fewRows); err != nil {
		return nil, err
	}
	b := make([]byte, 0, sidecarHead+len(body))
	b = binary.LittleEndian.AppendUint64(append(b, magic...), version)
	b = append(b, index[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(body)))
	sum := sha512.Sum512_256(body)
	return append(append(b, sum[:]...), body...), nil
}
