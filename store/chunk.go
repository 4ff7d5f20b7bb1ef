package store

import (
	"fmt"
	"sync"
	"sync/atomic"

	"caravel/chunker"
)

// A Chunk is one chunk's bytes: as they came and, once asked for, in other
// forms, each made at most once. It may be used by many goroutines, each of
// which holds it by a reference: the maker's, or one got by Retain. Its bytes
// are shared and must not be changed; plain ones are valid until the caller's
// Release.
type Chunk struct {
	want   Want
	where  string // path or URL; "" for one that was made here
	packed bool   // it came as stored, not as plain
	came   int    // bytes, as stored or as plain

	refs     atomic.Int32
	verified atomic.Bool

	mu      sync.Mutex // guards what follows
	stored  []byte
	unkeep  func() // gives stored back
	lent    int    // callers of Stored that are at it
	compact bool   // stored goes back after the last of them
	plain   []byte
	free    []func() // give all other buffers back
}

// NewChunk makes a chunk of plain bytes whose ID the caller has just computed:
// it counts as verified. free, if not nil, is called when the last reference is
// gone.
func NewChunk(id chunker.ID, d chunker.Digest, plain []byte, free func()) *Chunk {
	c := NewStored(Want{ID: id, Size: len(plain), Digest: d}, "", None, plain, free)
	c.verified.Store(true)
	return c
}

// NewStored makes a chunk of the bytes that a store keeps for it, not verified.
// compression is None for plain bytes; for any other value the bytes say
// themselves how they are compressed. where is the path or URL that they came
// from. free, if not nil, is called when stored is not needed any more.
func NewStored(want Want, where string, compression Compression, stored []byte, free func()) *Chunk {
	c := &Chunk{want: want, where: where, packed: compression != None, came: len(stored)}
	if c.packed {
		c.stored, c.unkeep = stored, free
	} else {
		c.plain = stored
		c.keep(free)
	}
	c.refs.Store(1)
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

// Came is the number of bytes that the chunk came as: what the store keeps.
func (c *Chunk) Came() int { return c.came }

// Verified reports whether the plain bytes are known to match the ID.
func (c *Chunk) Verified() bool { return c.verified.Load() }

// Trust has the chunk count as verified, on the word of whoever it came from. It
// must still unpack to be stored.
func (c *Chunk) Trust() { c.verified.Store(true) }

// Plain returns the plain bytes. The error is a *CorruptError: they cannot be
// decoded, or are not as many as the index says.
func (c *Chunk) Plain() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unpack()
}

// unpack is Plain for a caller that holds the lock.
func (c *Chunk) unpack() ([]byte, error) {
	c.mustLive()
	if c.packed && c.plain == nil {
		buf, err := decompress(c.stored, c.want.Size)
		if err != nil {
			return nil, c.corrupt(err)
		}
		c.plain = buf.b
		c.keep(buf.free)
	}
	if c.want.Size != 0 && len(c.plain) != c.want.Size {
		return nil, c.corrupt(fmt.Errorf("%d bytes, the index says %d,", len(c.plain), c.want.Size))
	}
	return c.plain, nil
}

// Verify decodes the chunk and compares its digest with its ID, once: a chunk
// that is verified already returns at once. The error is a *CorruptError.
func (c *Chunk) Verify() error {
	if c.verified.Load() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	plain, err := c.unpack()
	if err != nil || c.verified.Load() {
		return err
	}
	if got := c.want.Digest.Sum(plain); got != c.want.ID {
		return &CorruptError{ID: c.want.ID, Got: got, Where: c.where}
	}
	c.verified.Store(true)
	return nil
}

// Stored calls use with the bytes as a store of the form f keeps them, and
// returns what it returns; the bytes are valid until then. What came in f's
// compression is not compressed again, whatever its level.
func (c *Chunk) Stored(f Form, use func(stored []byte) error) error {
	b, err := c.lend(f)
	if err != nil {
		return err
	}
	defer c.takeBack()
	return use(b)
}

// AsCame calls use with the bytes as they came, and returns what it returns; the
// bytes are valid until then. packed is false if these are the plain ones: it
// came as such, or has been made compact since.
func (c *Chunk) AsCame(use func(b []byte, packed bool) error) error {
	c.mu.Lock()
	c.mustLive()
	b, packed := c.stored, c.stored != nil
	if !packed {
		b = c.plain
	}
	c.lent++
	c.mu.Unlock()
	defer c.takeBack()
	return use(b, packed)
}

func (c *Chunk) lend(f Form) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.unpack()
	if err != nil {
		return nil, err
	}
	if f.Compression != None {
		if err := c.pack(f); err != nil {
			return nil, err
		}
		b = c.stored
	}
	c.lent++
	return b, nil
}

// pack makes stored what a store of the form f keeps, for a caller that holds
// the lock.
func (c *Chunk) pack(f Form) error {
	if got, err := sniff(c.stored); err == nil && got == f.Compression {
		return nil
	}
	buf, err := compress(c.plain, f.Compression, f.Level)
	if err != nil {
		return err
	}
	c.keep(c.unkeep)
	c.stored, c.unkeep = buf.b, buf.free
	return nil
}

func (c *Chunk) takeBack() {
	c.mu.Lock()
	c.lent--
	free := c.shed()
	c.mu.Unlock()
	free()
}

// Compact frees the bytes that are not the plain ones, if these are there, as
// soon as no call of Stored uses them: for those who keep chunks in memory.
func (c *Chunk) Compact() {
	c.mu.Lock()
	c.compact = c.plain != nil
	free := c.shed()
	c.mu.Unlock()
	free()
}

// shed takes stored out if it is to go and can, for a caller that holds the
// lock. It returns what gives it back.
func (c *Chunk) shed() (free func()) {
	if c.compact && c.lent == 0 {
		free = c.unkeep
		c.compact, c.unkeep, c.stored = false, nil, nil
	}
	if free == nil {
		return func() {}
	}
	return free
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
		c.keep(c.unkeep)
		free := c.free
		c.free, c.unkeep, c.plain, c.stored = nil, nil, nil, nil
		c.mu.Unlock()
		for _, f := range free {
			f()
		}
	}
}

func (c *Chunk) mustLive() {
	if c.refs.Load() < 1 {
		panic("store: chunk used after its release")
	}
}

func (c *Chunk) corrupt(err error) error {
	return &CorruptError{ID: c.want.ID, Where: c.where, Err: err}
}
