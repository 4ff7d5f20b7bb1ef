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
	packed bool   // it came compressed, whatever was around that
	key    *Key   // it came encrypted with that; nil: it did not
	came   int    // bytes, as a store keeps them

	refs     atomic.Int32
	verified atomic.Bool

	mu      sync.Mutex // guards what follows
	sealed  sealed     // encrypted
	stored  layer      // compressed
	lent    int        // callers of Stored that are at it
	compact bool       // sealed and stored go back after the last of them
	plain   []byte
	free    []func() // give all other buffers back
}

// A layer is bytes of a chunk that are not the plain ones.
type layer struct {
	b    []byte // nil: not there
	free func() // gives b back; may be nil
}

// sealed is an encrypted layer.
type sealed struct {
	layer
	key   *Key
	inner Compression // of what is encrypted; of what came, surely known once that was decrypted
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
		c.stored = layer{stored, free}
	} else {
		c.plain = stored
		c.keep(free)
	}
	c.refs.Store(1)
	return c
}

// NewSealed is NewStored for bytes that are encrypted with key, which may be nil:
// then they are not. compression is that of what is encrypted.
func NewSealed(want Want, where string, key *Key, compression Compression, b []byte, free func()) *Chunk {
	if key == nil {
		return NewStored(want, where, compression, b, free)
	}
	c := &Chunk{want: want, where: where, packed: compression != None, key: key, came: len(b)}
	c.sealed = sealed{layer: layer{b, free}, key: key, inner: compression}
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

// Key is what the chunk came encrypted with; nil if it did not. Nobody keeps such
// a chunk in another form whose user has not asked for that.
func (c *Chunk) Key() *Key { return c.key }

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
	if c.plain == nil && (c.packed || c.key != nil) {
		if err := c.decode(); err != nil {
			return nil, c.corrupt(err)
		}
	}
	if c.want.Size != 0 && len(c.plain) != c.want.Size {
		return nil, c.corrupt(fmt.Errorf("%d bytes, the index says %d,", len(c.plain), c.want.Size))
	}
	return c.plain, nil
}

// decode makes plain bytes of what came, for a caller that holds the lock.
func (c *Chunk) decode() error {
	if c.key != nil && c.stored.b == nil {
		buf, err := c.key.open(c.sealed.b)
		if err != nil {
			return err
		}
		if !c.packed {
			c.sealed.inner = None
			c.plain = buf.b
			c.keep(buf.free)
			return nil
		}
		c.stored = layer{buf.b, buf.free}
	}
	buf, err := decompress(c.stored.b, c.want.Size)
	if err != nil {
		return err
	}
	if c.key != nil {
		c.sealed.inner, _ = sniff(c.stored.b)
	}
	c.plain = buf.b
	c.keep(buf.free)
	return nil
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
	return c.compare(c.want.Digest.Sum(plain))
}

// compare takes the digest of the plain bytes.
func (c *Chunk) compare(got chunker.ID) error {
	if got != c.want.ID {
		return &CorruptError{ID: c.want.ID, Got: got, Where: c.where}
	}
	c.verified.Store(true)
	return nil
}

// Stored calls use with the bytes as a store of the form f keeps them, and
// returns what it returns; the bytes are valid until then. What came in f's
// compression is not compressed again, whatever its level, and what came encrypted
// with f's key, too, is handed on as it is.
func (c *Chunk) Stored(f Form, use func(stored []byte) error) error {
	b, err := c.lend(f)
	if err != nil {
		return err
	}
	defer c.takeBack()
	return use(b)
}

// AsCame calls use with the bytes as they came, and returns what it returns; the
// bytes are valid until then. packed is false if they are not compressed: the
// chunk came as such, or has been made compact since. What came encrypted is
// never given in another form: with the same key it is encrypted anew where the
// bytes that came are gone.
func (c *Chunk) AsCame(use func(b []byte, packed bool) error) error {
	c.mu.Lock()
	c.mustLive()
	var b []byte
	packed := false
	switch {
	case c.key != nil && c.sealed.b != nil && c.sealed.key == c.key:
		b, packed = c.sealed.b, c.sealed.inner != None
	case c.key != nil:
		c.seal(Form{Compression: None, Key: c.key}, c.plain)
		b = c.sealed.b
	case c.stored.b != nil:
		b, packed = c.stored.b, true
	default:
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
	asCame := f.Key != nil && c.sealed.b != nil && c.sealed.inner == f.Compression && f.Key.Same(c.sealed.key)
	if f.Key.hidden() { // there is nothing but passing it on
		if !asCame {
			return nil, errHidden
		}
		c.mustLive()
		c.lent++
		return c.sealed.b, nil
	}
	b, err := c.unpack()
	if err != nil {
		return nil, err
	}
	if asCame {
		c.lent++
		return c.sealed.b, nil
	}
	if f.Compression != None {
		if err := c.pack(f); err != nil {
			return nil, err
		}
		b = c.stored.b
	}
	if f.Key != nil {
		c.seal(f, b)
		b = c.sealed.b
	}
	c.lent++
	return b, nil
}

// pack makes stored what a store of the form f keeps, or encrypts, for a caller
// that holds the lock.
func (c *Chunk) pack(f Form) error {
	if got, err := sniff(c.stored.b); err == nil && got == f.Compression {
		return nil
	}
	buf, err := compress(c.plain, f.Compression, f.Level)
	if err != nil {
		return err
	}
	c.keep(c.stored.free)
	c.stored = layer{buf.b, buf.free}
	return nil
}

// seal makes sealed what a store of the form f keeps of b, for a caller that
// holds the lock.
func (c *Chunk) seal(f Form, b []byte) {
	buf := f.Key.seal(b)
	c.keep(c.sealed.free)
	c.sealed = sealed{layer: layer{buf.b, buf.free}, key: f.Key, inner: f.Compression}
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

// shed takes out all but the plain bytes if that is to go and can, for a caller
// that holds the lock. It returns what gives it back.
func (c *Chunk) shed() (free func()) {
	if !c.compact || c.lent > 0 {
		return func() {}
	}
	frees := []func(){c.stored.free, c.sealed.free}
	c.compact, c.stored, c.sealed = false, layer{}, sealed{}
	return func() {
		for _, f := range frees {
			if f != nil {
				f()
			}
		}
	}
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
		c.keep(c.stored.free)
		c.keep(c.sealed.free)
		free := c.free
		c.free, c.plain, c.stored, c.sealed = nil, nil, layer{}, sealed{}
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
