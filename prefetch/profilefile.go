package prefetch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"caravel/chunker"
	"caravel/index"
)

// What a profile file consists of: docs/formats.md, section 15.
const (
	profileMagic   = "caravel profile\n"
	profileVersion = 1

	profileHead  = len(profileMagic) + 8 + 32 + 8
	profileRun   = 8 + 8
	profileChunk = 4 + 32
)

// ReadProfile reads a profile file to its end. What it accepts WriteTo writes
// back byte for byte. Memory grows with what arrives, and a profile of more than
// 1,048,576 chunks is refused.
func ReadProfile(r io.Reader) (*Profile, error) {
	d := profileDecoder{r: bufio.NewReaderSize(r, 64<<10)}
	p, chunks, err := d.head()
	if err != nil {
		return nil, err
	}
	for rest := chunks; rest > 0; {
		n, err := d.run(p, rest)
		if err != nil {
			return nil, err
		}
		rest -= n
	}
	switch _, err := d.r.Peek(1); err {
	case io.EOF:
		return p, nil
	case nil:
		return nil, d.errorf("bytes after the last chunk")
	default:
		return nil, d.errorf("%w", err)
	}
}

// A profileDecoder reads one file from front to back.
type profileDecoder struct {
	r   *bufio.Reader
	off int64 // of the next byte
}

func (d *profileDecoder) errorf(format string, a ...any) error {
	return fmt.Errorf("profile: offset %d: %w", d.off, fmt.Errorf(format, a...))
}

// head reads up to the first run, and how many chunks there are.
func (d *profileDecoder) head() (*Profile, uint64, error) {
	b, err := d.r.Peek(len(profileMagic))
	if err == nil && string(b) != profileMagic {
		return nil, 0, d.errorf("not a profile")
	}
	if b, err = d.next(profileHead, "header"); err != nil {
		return nil, 0, err
	}
	b = b[len(profileMagic):]
	if v := binary.LittleEndian.Uint64(b); v != profileVersion {
		return nil, 0, fmt.Errorf("profile: offset %d: version %d, not %d", len(profileMagic), v, profileVersion)
	}
	p := &Profile{Index: [32]byte(b[8:])}
	chunks := binary.LittleEndian.Uint64(b[40:])
	if chunks > maxChunks {
		return nil, 0, fmt.Errorf("profile: offset %d: %d chunks, above the limit of %d", profileHead-8, chunks, maxChunks)
	}
	return p, chunks, nil
}

// run reads a run of at most rest chunks, and returns how many it has.
func (d *profileDecoder) run(p *Profile, rest uint64) (uint64, error) {
	at := d.off
	b, err := d.next(profileRun, "head of a run")
	if err != nil {
		return 0, err
	}
	start, n := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if n == 0 || n > rest {
		return 0, fmt.Errorf("profile: offset %d: run of %d chunks, not of 1 to %d", at+8, n, rest)
	}
	off := int64(start)
	if off < 0 && off != elsewhere {
		return 0, fmt.Errorf("profile: offset %d: run at %d, beyond 2^63-1", at, start)
	}
	first := len(p.chunks)
	for range n {
		c, err := d.chunk(off)
		if err != nil {
			return 0, err
		}
		if len(p.chunks) == first && first > 0 && follows(p.chunks[first-1], c) {
			return 0, fmt.Errorf("profile: offset %d: run goes on where the one before it ends", at)
		}
		p.chunks = append(p.chunks, c)
		if off != elsewhere {
			off = c.End()
		}
	}
	return n, nil
}

// chunk reads a chunk that lies at off in the image.
func (d *profileDecoder) chunk(off int64) (index.Chunk, error) {
	at := d.off
	b, err := d.next(profileChunk, "run")
	if err != nil {
		return index.Chunk{}, err
	}
	size := binary.LittleEndian.Uint32(b)
	if size < 1 || size > chunker.MaxSize {
		return index.Chunk{}, fmt.Errorf("profile: offset %d: chunk of %d bytes, not of 1 to %d", at, size, chunker.MaxSize)
	}
	if off != elsewhere && int64(size) > math.MaxInt64-off {
		return index.Chunk{}, fmt.Errorf("profile: offset %d: chunk of %d bytes at %d ends beyond 2^63-1", at, size, off)
	}
	return index.Chunk{ID: chunker.ID(b[4:]), Start: off, Size: int(size)}, nil
}

// next returns n bytes, which are valid until the following call; part is where
// they belong to.
func (d *profileDecoder) next(n int, part string) ([]byte, error) {
	b, err := d.r.Peek(n)
	if err != nil {
		d.off += int64(len(b))
		if errors.Is(err, io.EOF) {
			return nil, d.errorf("truncated in the %s", part)
		}
		return nil, d.errorf("%w", err)
	}
	d.off += int64(n)
	_, err = d.r.Discard(n)
	return b, err
}

// WriteTo writes the file.
func (p *Profile) WriteTo(w io.Writer) (int64, error) {
	b := make([]byte, 0, profileHead+len(p.chunks)*(profileChunk+profileRun/2))
	b = append(b, profileMagic...)
	b = binary.LittleEndian.AppendUint64(b, profileVersion)
	b = append(b, p.Index[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(p.chunks)))
	for run := range p.runs() {
		b = binary.LittleEndian.AppendUint64(b, uint64(run[0].Start))
		b = binary.LittleEndian.AppendUint64(b, uint64(len(run)))
		for _, c := range run {
			b = binary.LittleEndian.AppendUint32(b, uint32(c.Size))
			b = append(b, c.ID[:]...)
		}
	}
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}

var _ io.WriterTo = (*Profile)(nil)
