// Package castp reads and writes the messages of casync's protocol, in which two
// programs hand each other chunks, indexes and archives over a stream of bytes: an
// ssh, or the pipes to a helper program.
//
// The protocol is described in docs/formats.md, section 5. Both sides begin with a
// HELLO, in which each says what it offers and what it wants; [Agree] tells whether
// they go together. A [Reader] refuses whatever may not be said at all, before
// anything is allocated for it; whether a message makes sense at this point is for
// whoever converses to say.
//
//	w := castp.NewWriter(conn)
//	err := w.Hello(castp.PullChunks)
//	…
//	r := castp.NewReader(conn)
//	m, err := r.Next() // castp.Hello
//
// What a message carries of a chunk or file is left in the stream for Reader.Read, so
// that it can go straight to where it belongs.
package castp

import (
	"errors"
	"fmt"

	"caravel/chunker"
)

// A Type says what a message is about.
type Type uint64

// The types of messages.
const (
	Hello      Type = 0x3c71d0948ca5fbee
	Index      Type = 0xb32a91dd2b3e27f8 // a piece of an index
	IndexEOF   Type = 0x4f0932f1043718f5
	Archive    Type = 0x95d6428a69eddcc5 // a piece of an archive
	ArchiveEOF Type = 0x450bef663f24cbad
	Request    Type = 0x8ab427e0f89d9210
	Chunk      Type = 0x5213dd180a84bc8c
	Missing    Type = 0xd010f9fac82b7b6c // there is no such chunk
	Goodbye    Type = 0xad205dbf1a3686c3
	Abort      Type = 0xe7d9136b7efea352
)

// String is the type's name in casync's words.
func (t Type) String() string {
	switch t {
	case Hello:
		return "HELLO"
	case Index:
		return "INDEX"
	case IndexEOF:
		return "INDEX_EOF"
	case Archive:
		return "ARCHIVE"
	case ArchiveEOF:
		return "ARCHIVE_EOF"
	case Request:
		return "REQUEST"
	case Chunk:
		return "CHUNK"
	case Missing:
		return "MISSING"
	case Goodbye:
		return "GOODBYE"
	case Abort:
		return "ABORT"
	}
	return fmt.Sprintf("type %#x", uint64(t))
}

// Flags are what one side offers and wants, in its HELLO.
type Flags uint64

// The services that a side offers.
const (
	ReadableStore Flags = 1 << iota
	WritableStore
	ReadableIndex
	WritableIndex
	ReadableArchive
	WritableArchive
)

// The operations that a side wants to do.
const (
	PullChunks Flags = 0x40 << iota
	PullIndex
	PullArchive
	PushChunks
	PushIndex
	PushIndexChunks // the other side is to ask for the chunks that the index names
	PushArchive

	operations = PullChunks | PullIndex | PullArchive | PushChunks | PushIndex | PushIndexChunks | PushArchive
	allFlags   = 0x1fff
)

// needs are the services that operations want of the other side.
var needs = map[Flags]Flags{
	PullChunks:  ReadableStore,
	PullIndex:   ReadableIndex,
	PullArchive: ReadableArchive,
	PushChunks:  WritableStore,
	PushIndex:   WritableIndex,
	PushArchive: WritableArchive,
}

// Agree says why two sides that have sent these HELLOs have nothing to do with each
// other, if so.
func Agree(ours, theirs Flags) error {
	if missing := wanted(ours) &^ theirs; missing != 0 {
		return fmt.Errorf("the other side does not offer %v", missing)
	}
	if missing := wanted(theirs) &^ ours; missing != 0 {
		return fmt.Errorf("the other side wants %v, which is not offered", missing)
	}
	if (ours|theirs)&operations == 0 {
		return errors.New("nobody wants anything")
	}
	return nil
}

// wanted are the services that somebody needs of the other side.
func wanted(f Flags) (services Flags) {
	for op, service := range needs {
		if f&op != 0 {
			services |= service
		}
	}
	return services
}

// check refuses flags that no side may send.
func (f Flags) check() error {
	switch {
	case f == 0 || f&^allFlags != 0:
		return fmt.Errorf("flags %#x", uint64(f))
	case f&PushIndexChunks != 0 && f&(PushChunks|PushIndex) != PushChunks|PushIndex:
		return fmt.Errorf("flags %#x: chunks of an index without index and chunks", uint64(f))
	}
	return nil
}

// String names the services among the flags, for errors.
func (f Flags) String() string {
	text := ""
	for i, name := range []string{"a store to read", "a store to write", "an index to read", "an index to write", "an archive to read", "an archive to write"} {
		if f&(1<<i) == 0 {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += name
	}
	return text
}

// The bounds of a message, and of what fits into one.
const (
	headSize = 16
	maxSize  = 16 << 20

	// MaxChunk is the most bytes that a chunk can have to be sent.
	MaxChunk = maxSize - headSize - 8 - idSize

	// Piece is how many bytes of a file go into one message, as in casync.
	Piece = 64 << 10

	idSize  = len(chunker.ID{})
	maxText = 4 << 10 // of an ABORT; what is longer says nothing more
)

// Flags of single messages.
const (
	HighPriority = 1 // of a Request: somebody waits
	Compressed   = 1 // of a Chunk
)

// A Message is one message without its data.
type Message struct {
	Type  Type
	Flags uint64       // of Hello, Request, Chunk
	IDs   []chunker.ID // of Request; one of Chunk and Missing
	Size  int          // of what follows for Reader.Read, in bytes: of Index, Archive, Chunk
	Code  int          // of Abort: an errno of Linux, 0: unknown
	Text  string       // of Abort
}

// An AbortError is the other side's ABORT.
type AbortError struct {
	Code int // an errno of Linux, 0: unknown
	Text string
}

func (e *AbortError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("the other side gave up (error %d)", e.Code)
	}
	return fmt.Sprintf("the other side gave up: %q", e.Text)
}
