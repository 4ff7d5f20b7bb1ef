package castp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"caravel/chunker"
)

// A Writer writes messages. They are sent with Flush, or when there is enough of them.
// It is for one goroutine at a time; after an error all calls return it.
type Writer struct{ w *bufio.Writer }

// NewWriter writes the messages of one side.
func NewWriter(w io.Writer) *Writer { return &Writer{bufio.NewWriterSize(w, Piece)} }

// Flush sends what was written.
func (w *Writer) Flush() error { return w.w.Flush() }

// Hello says what this side offers and wants.
func (w *Writer) Hello(f Flags) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("castp: %v with %w", Hello, err)
	}
	return w.message(Hello, words(uint64(f)))
}

// File sends bytes of an index or archive, in as many messages of the type as they
// take.
func (w *Writer) File(t Type, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), Piece)
		if err := w.message(t, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Bare sends a message that has no body: IndexEOF, ArchiveEOF, Goodbye.
func (w *Writer) Bare(t Type) error { return w.message(t) }

// Request asks for chunks, of which there must be some and no more than go into a
// Piece. urgent ones come before others. Not all servers answer for more than the
// first of them.
func (w *Writer) Request(urgent bool, ids ...chunker.ID) error {
	flags := uint64(0)
	if urgent {
		flags = HighPriority
	}
	body := words(flags)
	for _, id := range ids {
		body = append(body, id[:]...)
	}
	return w.message(Request, body)
}

// Chunk sends a chunk, of 1 to MaxChunk bytes.
func (w *Writer) Chunk(id chunker.ID, compressed bool, data []byte) error {
	if n := len(data); n < 1 || n > MaxChunk {
		return fmt.Errorf("castp: chunk %v: %d bytes do not go into a message, 1 to %d do", id, n, MaxChunk)
	}
	flags := uint64(0)
	if compressed {
		flags = Compressed
	}
	return w.message(Chunk, words(flags), id[:], data)
}

// Missing says that there is no such chunk.
func (w *Writer) Missing(id chunker.ID) error { return w.message(Missing, id[:]) }

// Abort says why this side gives up; code is an errno of Linux, 0: unknown.
func (w *Writer) Abort(code int, text string) error {
	line := []byte(text[:min(len(text), maxText-1)])
	for i, b := range line {
		if b < 0x20 {
			line[i] = ' '
		}
	}
	return w.message(Abort, words(uint64(code)), line, []byte{0})
}

func (w *Writer) message(t Type, parts ...[]byte) error {
	size := headSize
	for _, p := range parts {
		size += len(p)
	}
	if _, err := w.w.Write(words(uint64(size), uint64(t))); err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

func words(numbers ...uint64) []byte {
	b := make([]byte, 0, 8*len(numbers))
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}
