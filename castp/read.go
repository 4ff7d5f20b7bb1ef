package castp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"caravel/chunker"
)

// A Reader reads messages. It is for one goroutine.
type Reader struct {
	r     *bufio.Reader
	off   int64 // of the next byte of the stream
	left  int   // bytes of the last message that are not read
	hello bool  // has come
}

// NewReader reads the messages of one side.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, Piece)} }

// Next reads a message up to its data, skipping what is left of the one before. The
// error is io.EOF where the stream ends between two messages.
func (r *Reader) Next() (Message, error) {
	if err := r.skip(); err != nil {
		return Message{}, err
	}
	at := r.off
	m, err := r.next()
	if err != nil && err != io.EOF {
		err = fmt.Errorf("castp: offset %d: %w", at, err)
	}
	return m, err
}

// Read reads the data of the last message, by the rules of io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(len(p), r.left)])
	r.left -= n
	r.off += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *Reader) skip() error {
	n, err := r.r.Discard(r.left)
	r.left -= n
	r.off += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) next() (m Message, err error) {
	head, err := r.words(2)
	if err != nil {
		return m, err
	}
	m.Type = Type(head[1])
	if head[0] < headSize || head[0] > maxSize {
		return m, fmt.Errorf("%v of %d bytes", m.Type, head[0])
	}
	r.left = int(head[0]) - headSize
	if err := r.expected(m.Type); err != nil {
		return m, err
	}
	switch m.Type {
	case Hello:
		err = r.readHello(&m)
	case Index, Archive:
		err = r.data(&m)
	case IndexEOF, ArchiveEOF, Goodbye:
		err = r.exactly(&m, 0)
	case Request:
		err = r.readRequest(&m)
	case Chunk:
		err = r.readChunk(&m)
	case Missing:
		if err = r.exactly(&m, idSize); err == nil {
			err = r.ids(&m, 1)
		}
	case Abort:
		err = r.readAbort(&m)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}

// expected refuses what is no message, and one before or after the only HELLO.
func (r *Reader) expected(t Type) error {
	switch t {
	case Abort:
		return nil
	case Hello:
		if r.hello {
			return fmt.Errorf("a second %v", t)
		}
		r.hello = true
		return nil
	case Index, IndexEOF, Archive, ArchiveEOF, Request, Chunk, Missing, Goodbye:
		if !r.hello {
			return fmt.Errorf("%v before %v", t, Hello)
		}
		return nil
	}
	return fmt.Errorf("no message has %v", t)
}

func (r *Reader) readHello(m *Message) error {
	if err := r.exactly(m, 8); err != nil {
		return err
	}
	if err := r.flags(m, math.MaxUint64); err != nil {
		return err
	}
	if err := Flags(m.Flags).check(); err != nil {
		return fmt.Errorf("%v with %w", m.Type, err)
	}
	return nil
}

func (r *Reader) readRequest(m *Message) error {
	n := (r.left - 8) / idSize
	if n < 1 || r.left != 8+n*idSize {
		return r.badSize(m)
	}
	if err := r.flags(m, HighPriority); err != nil {
		return err
	}
	return r.ids(m, n)
}

func (r *Reader) readChunk(m *Message) error {
	if r.left < 8+idSize+1 {
		return r.badSize(m)
	}
	if err := r.flags(m, Compressed); err != nil {
		return err
	}
	if err := r.ids(m, 1); err != nil {
		return err
	}
	return r.data(m)
}

// readAbort takes an ABORT with or without the text that newer casyncs send along.
func (r *Reader) readAbort(m *Message) error {
	if r.left < 8 {
		return r.badSize(m)
	}
	code, err := r.words(1)
	if err != nil {
		return err
	}
	if code[0] >= math.MaxInt32 {
		return fmt.Errorf("%v with code %d", m.Type, code[0])
	}
	m.Code = int(code[0])
	text := make([]byte, min(r.left, maxText))
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	for i, b := range text {
		if b < 0x20 {
			text = text[:i] // the NUL, or what is not meant for people
			break
		}
	}
	m.Text = string(text)
	return nil
}

// data leaves the rest of a message to Read.
func (r *Reader) data(m *Message) error {
	if r.left == 0 {
		return r.badSize(m)
	}
	m.Size = r.left
	return nil
}

func (r *Reader) flags(m *Message, known uint64) error {
	f, err := r.words(1)
	if err != nil {
		return err
	}
	if f[0]&^known != 0 {
		return fmt.Errorf("%v with flags %#x", m.Type, f[0])
	}
	m.Flags = f[0]
	return nil
}

// ids reads n of them. Memory grows with what comes.
func (r *Reader) ids(m *Message, n int) error {
	m.IDs = make([]chunker.ID, 0, min(n, Piece/idSize))
	for range n {
		var id chunker.ID
		if _, err := io.ReadFull(r, id[:]); err != nil {
			return err
		}
		m.IDs = append(m.IDs, id)
	}
	return nil
}

func (r *Reader) exactly(m *Message, size int) error {
	if r.left != size {
		return r.badSize(m)
	}
	return nil
}

func (r *Reader) badSize(m *Message) error {
	return fmt.Errorf("%v of %d bytes", m.Type, r.left+headSize)
}

// words reads n numbers: of a head, which is no part of what is left, or of a body.
// The error is io.EOF if there is nothing.
func (r *Reader) words(n int) ([2]uint64, error) {
	var b [16]byte
	got, err := io.ReadFull(r.r, b[:8*n])
	r.off += int64(got)
	r.left = max(r.left-got, 0)
	var words [2]uint64
	for i := range n {
		words[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return words, err
}
