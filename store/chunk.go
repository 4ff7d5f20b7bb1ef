package store

import (
	"fmt"
	"sync"
	"sync/atomic"

	"caravel/chunker"
)

// A Chunk is one chunk's bytes: as they came and, once asked for, in other
// forms, each made at most once. It may be used by many goroutines, each of
// which holds it by a reference: the maker's, or one got by Retain. What its
// methods return is shared, must not be changed, and is valid until the
// caller's Release.
type Chunk struct {
	want  Want
	where string // path or URL; "" for one that was made here

	refs     atomic.Int32
	verified atomic.Bool

	mu          sync.Mutex // guards what follows
	stored      []byte     // as it came; nil if it came plain
	compression Compression
	plain       []byte
	free        []func() // give pooled buffers back
}

// NewChunk makes a chunk of plain bytes whose ID the caller has just computed:
// it counts as verified. free, if not nil, is called when the last reference is
// gone.
func NewChunk(id chunker.ID, d chunker.Digest, plain []byte, free func()) *Chunk {
	c := &Chunk{want: Want{ID: id, Size: len(plain), Digest: d}, plain: plain}
	c.refs.Store(1)
	c.verified.Store(true)
	c.keep(free)
	return c
}

// NewStored makes a chunk of the bytes that a store keeps for it, not verified.
// compression is None for plain bytes; for any other value the bytes say
// themselves how they are compressed. where is the path or URL that they came
// from.
func NewStored(want Want, where string, compression Compression, stored []byte, free func()) *Chunk {
	c := &Chunk{want: want, where: where, compression: compression}
	if compression == None {
		c.plain = stored
	} else {
		c.stored = stored
	}
	c.refs.Store(1)
	c.keep(free)
	return c
}

func (c *Chunk) keep(free func()) {
	if free != nil {
		c.free = append(c.free, free)
	}
}

// ID is the digest that the chunk goes by.
func (c *Chunk) ID() chunker.ID { return c.want.ID }

// Digest is the algorithm behind ID.
func (c *Chunk) Digest() chunker.Digest { return c.want.Digest }

// Where is the path or URL that the chunk came from.
func (c *Chunk) Where() string { return c.where }

// Verified reports whether the plain bytes are known to match the ID.
func (c *Chunk) Verified() bool { return c.verified.Load() }

// Plain returns the plain bytes. The error is a *CorruptError: they cannot be
// decoded, or are not as many as the index says.
func (c *Chunk) Plain() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plain == nil && c.stored != nil {
		plain, free, err := c.decode()
		if err != nil {
			return nil, err
		}
		c.plain = plain
		c.keep(free)
	}
	if c.want.Size != 0 && len(c.plain) != c.want.Size {
		return nil, c.corrupt(fmt.Errorf("%d bytes, the index says %d", len(c.plain), c.want.Size))
	}
	return c.plain, nil
}

// decode unpacks c.stored into a pooled buffer, and stops one byte after the
// size that the index gives.
func (c *Chunk) decode() (plain []byte, free func(), err error) {
	limit := c.want.Size
	if limit == 0 {
		limit = chunker.MaxSize
	}
	plain, free, err = decompress(c.stored, c.want.Size, limit)
	if err != nil {
		return nil, nil, c.corrupt(err)
	}
	return plain, free, nil
}

// Verify decodes the chunk and compares its digest with its ID, once: a chunk
// that is verified already returns at once. The error is a *CorruptError.
func (c *Chunk) Verify() error {
	if c.verified.Load() {
		return nil
	}
	plain, err := c.Plain()
	if err != nil {
		return err
	}
	if got := c.want.Digest.Sum(plain); got != c.want.ID {
		return &CorruptError{ID: c.want.ID, Got: got, Where: c.where}
	}
	c.verified.Store(true)
	return nil
}

// Stored returns the bytes as a store of the given form keeps them, without
// compressing again what came in that form.
func (c *Chunk) Stored(form Compression) ([]byte, error) {
	plain, err := c.Plain()
	if err != nil || form == None {
		return plain, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stored == nil || sniff(c.stored) != form {
		stored, free, err := compress(plain, form)
		if err != nil {
			return nil, err
		}
		c.stored, c.compression = stored, form
		c.keep(free)
	}
	return c.stored, nil
}

// Retain takes a further reference.
func (c *Chunk) Retain() *Chunk {
	if c.refs.Add(1) < 2 {
		panic("store: chunk retained after its release")
	}
	return c
}

// Release gives one reference back. After the last one the buffers are used
// for other chunks.
func (c *Chunk) Release() {
	switch n := c.refs.Add(-1); {
	case n < 0:
		panic("store: chunk released twice")
	case n == 0:
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, free := range c.free {
			free()
		}
		c.free, c.plain, c.stored = nil, nil, nil
	}
}

func (c *Chunk) corrupt(err error) error {
	return &CorruptError{ID: c.want.ID, Where: c.where, Err: err}
}
