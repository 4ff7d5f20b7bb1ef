package diskcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"caravel/chunker"
	"caravel/store"
)

// A chunk's file begins with a head: four bytes of magic, one that says how the
// chunk lies behind it, and three zeros. What came plain is kept plain: packing
// takes three times as long as unpacking, which each hit would have to pay, and
// who keeps a store of plain chunks has chosen so.
const (
	headSize  = 8
	headMagic = "cch\x01"
)

// The ways in which a chunk lies in its file.
const (
	plainForm  = 0
	packedForm = 1 // the bytes say themselves how
	sealedForm = 2 // added to one of the others: encrypted
)

// A slot is what is kept of a chunk: as it is, or encrypted with a key. The file
// that it lies in is named for both.
type slot struct {
	id  chunker.ID
	key *store.Key // nil: as it is
}

func (s slot) name() name {
	text := s.id.String()
	n := name{chunkRoom, text[:2], text}
	if s.key != nil {
		n.file += "." + s.key.String()
	}
	return n
}

// limit is the most bytes that the file may have if the chunk has size.
func (s slot) limit(size int) int { return headSize + (store.Form{Key: s.key}).Limit(size) }

// Get reads a chunk. It counts as a use.
func (c *Cache) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	return c.get(ctx, want, nil)
}

func (c *Cache) get(ctx context.Context, want store.Want, key *store.Key) (*store.Chunk, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	at := slot{want.ID, key}
	if chunk := c.waiting(want, at); chunk != nil {
		c.hits.Add(1)
		return chunk, nil
	}
	p := c.enter()
	defer c.leave(p)
	n, limit := at.name(), at.limit(want.Size)
	var b []byte
	var free func()
	used, err := p.read(n, int64(limit), func(size int) []byte {
		b, free = store.Buffer(size)
		return b
	})
	var chunk *store.Chunk
	if err == nil {
		chunk, err = opened(want, key, c.locate(n), b, free)
	}
	switch {
	case err == nil:
		c.hits.Add(1)
		if stale(used) {
			p.use(n)
		}
		return chunk, nil
	case free != nil:
		free()
	}
	c.misses.Add(1)
	switch {
	case missing(err):
		return nil, &store.MissingError{ID: want.ID, Where: c.locate(n)}
	case errors.Is(err, errTooLong):
		err = fmt.Errorf("more than the %d bytes that the chunk can take", limit)
		return nil, &store.CorruptError{ID: want.ID, Where: c.locate(n), Err: err}
	case errors.Is(err, store.ErrCorrupt):
		return nil, err
	}
	return nil, fmt.Errorf("diskcache: chunk %s: %w in %s", want.ID, err, c.locate(n))
}

// fresh is how long a use is not noted again.
const fresh = 10 * time.Minute

func stale(used time.Time) bool { return time.Since(used).Abs() > fresh }

// opened makes a chunk of the content of its file, which key, if not nil, has
// encrypted.
func opened(want store.Want, key *store.Key, where string, b []byte, free func()) (*store.Chunk, error) {
	form, rest, err := parse(b)
	if err == nil && form&sealedForm != 0 != (key != nil) {
		err = errors.New("encrypted, or not, where the name says otherwise")
	}
	if err != nil {
		return nil, &store.CorruptError{ID: want.ID, Where: where, Err: err}
	}
	compression := store.None
	if form&packedForm != 0 {
		compression = store.Zstd
	}
	return store.NewSealed(want, where, key, compression, rest, free), nil
}

func parse(b []byte) (form byte, rest []byte, err error) {
	if len(b) <= headSize {
		return 0, nil, errors.New("truncated")
	}
	form, rest = b[len(headMagic)], b[headSize:]
	if !bytes.Equal(b[:headSize], head(form)) || form > sealedForm|packedForm {
		return 0, nil, fmt.Errorf("no chunk of a cache (starts with %x)", b[:headSize])
	}
	return form, rest, nil
}

func head(form byte) []byte { return append([]byte(headMagic), form, 0, 0, 0) }

// Has reports whether Get would find the chunk, as far as its file's length
// tells. It is no use.
func (c *Cache) Has(ctx context.Context, want store.Want) (bool, error) {
	return c.has(ctx, want, nil)
}

func (c *Cache) has(ctx context.Context, want store.Want, key *store.Key) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	at := slot{want.ID, key}
	c.mu.Lock()
	_, waits := c.pending[at]
	c.mu.Unlock()
	if waits {
		return true, nil
	}
	p := c.enter()
	defer c.leave(p)
	n := at.name()
	size, _, err := p.stat(n)
	switch {
	case missing(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("diskcache: chunk %s: %w in %s", want.ID, err, c.locate(n))
	}
	return size > headSize && size <= int64(at.limit(want.Size)), nil
}

// The rooms that files lie in.
const (
	chunkRoom = iota
	fileRoom
	imageRoom
	roomCount
)

var roomNames = [roomCount]string{"chunks", "files", "images"}

// A name is where a file lies in its room.
type name struct {
	room   int
	folder string // "": in the room itself
	file   string
}

// rel is the path below the room.
func (n name) rel() string {
	if n.folder == "" {
		return n.file
	}
	return n.folder + "/" + n.file
}

// locate is the path of a file, for people.
func (c *Cache) locate(n name) string { return c.path + "/" + roomNames[n.room] + "/" + n.rel() }
