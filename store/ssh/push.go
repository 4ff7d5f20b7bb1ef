package ssh

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"

	"golang.org/x/sync/semaphore"

	"caravel/castp"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
)

// sending is how many bytes may wait to be sent.
const sending = 16 << 20

// headSize is the length of what stands before the rows of an index, and rowSize that
// of a row.
const (
	headSize = 64
	rowSize  = 40
)

// A pusher is a session in which chunks are sent. What the rows do that it sends is in
// the package's doc.
type pusher struct {
	session
	digest chunker.Digest
	room   *semaphore.Weighted

	mu      sync.Mutex // guards what follows
	known   map[chunker.ID]known
	rows    []*row      // not sent yet
	waiting []*row      // sent, and not settled, in their order
	probe   *chunker.ID // names no chunk; nil: none is under way
	end     int64       // of the last row
	rest    []byte      // of the row of which one byte was sent
	mark    int         // of sent, when the probe was

	// Chunks: what was given to send, of that what was written, and what is known to
	// have been stored. unstored are those that were given and are not, in their order:
	// when the session dies, the next one sends them again.
	put, sent, stored int
	unstored          []*store.Chunk
}

// known is what is known of a chunk.
type known uint8

const (
	unknown known = iota
	wanted        // the far side has asked for it
	there         // it has not
	sent          // by this session
)

// A row is a question.
type row struct {
	id      chunker.ID
	size    int
	probes  bool          // nothing but when it is settled
	settled chan struct{} // closed when that is known
}

// push is the session for chunks of a digest.
func (s *Store) push(ctx context.Context, d chunker.Digest) (*pusher, error) {
	select {
	case s.opening <- struct{}{}:
		defer func() { <-s.opening }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if p := s.open()[d]; p != nil {
		if !p.over() {
			return p, nil
		}
		<-p.done
		s.forget(d, p)
	}
	p := &pusher{digest: d, room: semaphore.NewWeighted(sending), known: map[chunker.ID]known{}}
	p.handle = p.take
	p.owed = func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.probe != nil
	}
	// No index ever gets this name.
	name := fmt.Sprintf("%s.push-%s", s.place.path, rand.Text())
	c := call{place: s.place, verb: "push", args: []string{"-", name, s.place.path}, wants: castp.PushChunks | castp.PushIndex | castp.PushIndexChunks}
	opt := s.opt
	opt.Idle = math.MaxInt64 // it ends with Sync
	if err := p.begin(ctx, c, opt); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.pushers[d] = p
	orphans := s.orphans[d]
	delete(s.orphans, d)
	s.mu.Unlock()
	if err := p.adopt(ctx, orphans); err != nil {
		return nil, err
	}
	return p, nil
}

// adopt sends what a session that has died may not have stored.
func (p *pusher) adopt(ctx context.Context, orphans []*store.Chunk) error {
	for i, c := range orphans {
		plain, err := c.Plain()
		k := unknown
		if err == nil {
			k, err = p.has(ctx, c.ID(), len(plain))
		}
		if err == nil && k == wanted {
			err = p.sendChunk(ctx, c)
		}
		if err != nil { // they are this one's, for the next one to find
			p.mu.Lock()
			p.unstored = append(p.unstored, orphans[i:]...)
			p.mu.Unlock()
			p.fail(err)
			return err
		}
		c.Release()
	}
	return nil
}

// has asks whether a chunk is there.
func (p *pusher) has(ctx context.Context, id chunker.ID, size int) (known, error) {
	p.use()
	p.mu.Lock()
	if k := p.known[id]; k != unknown {
		p.mu.Unlock()
		return k, nil
	}
	r := &row{id: id, size: max(size, 1), settled: make(chan struct{})}
	p.rows = append(p.rows, r)
	p.mu.Unlock()
	p.ask()
	if err := p.await(ctx, r); err != nil {
		return unknown, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[id], nil
}

// settle returns when all chunks that were sent have been stored.
func (p *pusher) settle(ctx context.Context) error {
	p.use()
	p.mu.Lock()
	all := p.put
	p.mu.Unlock()
	for {
		p.mu.Lock()
		if p.stored >= all {
			p.mu.Unlock()
			return nil
		}
		r := &row{probes: true, settled: make(chan struct{})}
		p.rows = append(p.rows, r)
		p.mu.Unlock()
		p.ask()
		if err := p.await(ctx, r); err != nil {
			return err
		}
	}
}

func (p *pusher) await(ctx context.Context, r *row) error {
	select {
	case <-r.settled:
		return nil
	case <-p.done:
		if p.err != nil {
			return p.err
		}
		return fmt.Errorf("ssh: %s: %w", p.where, errEnded)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sendChunk returns when a chunk waits to be sent.
func (p *pusher) sendChunk(ctx context.Context, c *store.Chunk) error {
	p.use()
	size := 0
	err := c.Stored(store.Form{}, func(b []byte) error {
		if size = len(b); size > castp.MaxChunk {
			return refused(p.where, "chunk %v: %d bytes do not go into a message, %d do", c.ID(), size, castp.MaxChunk)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.room.Acquire(ctx, int64(size)); err != nil {
		return context.Cause(ctx)
	}
	p.mu.Lock()
	first := p.known[c.ID()] != sent
	if first {
		p.known[c.ID()] = sent
		p.put++
		p.unstored = append(p.unstored, c.Retain())
		p.send(p.chunk(c, size)) // here, so that they go in the order of unstored
	}
	p.mu.Unlock()
	if !first { // somebody else was faster
		p.room.Release(int64(size))
	}
	return nil
}

// chunk is the job of sending a chunk, for which there is room.
func (p *pusher) chunk(c *store.Chunk, size int) func(w *castp.Writer) error {
	c.Retain()
	return func(w *castp.Writer) error {
		defer p.room.Release(int64(size))
		defer c.Release()
		err := c.Stored(store.Form{}, func(b []byte) error { return w.Chunk(c.ID(), true, b) })
		p.mu.Lock()
		p.sent++
		p.mu.Unlock()
		return err
	}
}

// ask sends what is to be asked, and a probe behind it, unless one is under way: then
// it is done when that comes back.
func (p *pusher) ask() {
	p.mu.Lock()
	idle := p.probe == nil
	if idle {
		id := chunker.ID{}
		_, _ = rand.Read(id[:]) // never fails
		p.probe = &id
	}
	p.mu.Unlock()
	if idle {
		p.send(p.sendRows)
	}
}

// sendRows writes the rows that wait and the probe. Of the row behind it there is one
// byte: casync does not look at a row before it has seen that another one follows.
func (p *pusher) sendRows(w *castp.Writer) error {
	p.mu.Lock()
	b := p.rest
	if p.end == 0 {
		b = indexHead(p.digest)
	}
	for _, r := range p.rows {
		if !r.probes {
			b = p.append(b, r.id, r.size)
		}
	}
	b = p.append(b, *p.probe, 1)
	next := p.append(nil, *p.probe, 1)
	b, p.rest = append(b, next[0]), next[1:]
	p.waiting, p.rows, p.mark = p.rows, nil, p.sent
	p.mu.Unlock()
	return w.File(castp.Index, b)
}

// append adds a row.
func (p *pusher) append(b []byte, id chunker.ID, size int) []byte {
	p.end += int64(size)
	return append(binary.LittleEndian.AppendUint64(b, uint64(p.end)), id[:]...)
}

// indexHead is how an index begins.
func indexHead(d chunker.Digest) []byte {
	var b bytes.Buffer
	p := chunker.Params{Min: 1, Avg: chunker.MaxSize, Max: chunker.MaxSize}
	if _, err := index.NewBuilder(feature.Blob(d), p).Index().WriteTo(&b); err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()[:headSize]
}

// take hears which chunks the far side wants.
func (p *pusher) take(m castp.Message, _ *castp.Reader) error {
	if m.Type != castp.Request {
		return fmt.Errorf("%v, where chunks were offered", m.Type)
	}
	again := false
	p.mu.Lock()
	for _, id := range m.IDs {
		if p.probe != nil && id == *p.probe {
			p.back()
			again = again || len(p.rows) > 0
			continue
		}
		p.wanted(id)
	}
	p.mu.Unlock()
	if again {
		p.ask()
	}
	return nil
}

// wanted notes that a chunk is not there, for a caller that holds the lock.
func (p *pusher) wanted(id chunker.ID) {
	for _, r := range p.waiting {
		if r.id == id && !r.probes && p.known[id] == unknown {
			p.known[id] = wanted
		}
	}
}

// back settles all before the probe, for a caller that holds the lock.
func (p *pusher) back() {
	for _, r := range p.waiting {
		if !r.probes && p.known[r.id] == unknown {
			p.known[r.id] = there
		}
		close(r.settled)
	}
	for _, c := range p.unstored[:p.mark-p.stored] {
		c.Release()
	}
	p.unstored = p.unstored[p.mark-p.stored:]
	p.waiting, p.probe, p.stored = nil, nil, p.mark
}

// Writer is the store for those who write.
func (s *Store) Writer() store.Writer { return writer{s} }

// A writer asks on the session on which it writes, where a question costs no chunk.
type writer struct{ s *Store }

func (w writer) String() string { return w.s.String() }

// Get asks for a chunk, after those that were put have been stored, as far as that can be:
// one that a session has lost is not there until the next one has sent it.
func (w writer) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	for _, p := range w.s.open() {
		if err := p.settle(ctx); err != nil && !p.over() {
			return nil, err
		}
	}
	return w.s.Get(ctx, want)
}

func (w writer) Has(ctx context.Context, want store.Want) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	p, err := w.s.push(ctx, want.Digest)
	if err != nil {
		return false, err
	}
	k, err := p.has(ctx, want.ID, want.Size)
	return k == there || k == sent, err
}

// Put sends a chunk, if the far side has none. An error of storing it may be that of a
// later call, of Sync at the latest; the chunk is sent again then, with what comes next,
// until Sync has succeeded or the Store is closed. The error of a chunk that is there and damaged matches
// store.ErrRefused: it cannot be replaced.
func (w writer) Put(ctx context.Context, c *store.Chunk) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.Verify(); err != nil {
		return err
	}
	p, err := w.s.push(ctx, c.Digest())
	if err != nil {
		return err
	}
	plain, err := c.Plain()
	if err != nil {
		return err
	}
	k, err := p.has(ctx, c.ID(), len(plain))
	switch {
	case err != nil:
		return err
	case k == there:
		return w.check(ctx, store.Want{ID: c.ID(), Size: len(plain), Digest: c.Digest()})
	case k == sent:
		return nil
	}
	return p.sendChunk(ctx, c)
}

// check says whether a chunk is there as it should be.
func (w writer) check(ctx context.Context, want store.Want) error {
	c, err := store.Verify(w.s).Get(ctx, want)
	if errors.Is(err, store.ErrCorrupt) {
		return refused(w.String(), "%v, and casync's protocol cannot replace it; remove it there", err)
	}
	if err != nil {
		return err
	}
	c.Release()
	return nil
}

// Sync ends the sessions, after all that was put has been stored. A caravel on the far
// side has it on disk then; casync leaves that to the system.
func (w writer) Sync(ctx context.Context) error {
	for _, d := range w.s.writing() {
		p, err := w.s.push(ctx, d) // another one, if that has died
		if err != nil {
			return err
		}
		if err := p.settle(ctx); err != nil {
			return err
		}
		p.finish()
		select {
		case <-p.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		w.s.forget(d, p)
		if p.err != nil {
			return p.err
		}
	}
	return nil
}

// open are the sessions for writing.
func (s *Store) open() map[chunker.Digest]*pusher {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.pushers)
}

// writing are the digests of chunks that may still have to be stored.
func (s *Store) writing() (all []chunker.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.pushers {
		all = append(all, d)
	}
	for d := range s.orphans {
		if s.pushers[d] == nil {
			all = append(all, d)
		}
	}
	return all
}

// forget takes a session out that is over, and keeps what it may not have stored.
func (s *Store) forget(d chunker.Digest, p *pusher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushers[d] == p {
		delete(s.pushers, d)
		if left := p.left(); len(left) > 0 {
			s.orphans[d] = append(s.orphans[d], left...)
		}
	}
}

// left are the chunks, of a session that is over, that may not have been stored; they are
// the caller's.
func (p *pusher) left() []*store.Chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.unstored
	p.unstored = nil
	return left
}
