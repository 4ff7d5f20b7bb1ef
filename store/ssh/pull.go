package ssh

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"caravel/castp"
	"caravel/chunker"
	"caravel/store"
)

// A puller is a session in which chunks are asked for.
type puller struct {
	session

	mu    sync.Mutex // guards what follows
	asked map[chunker.ID][]*answer
	count int // of answers that somebody waits for

	had     map[chunker.ID]bool // was asked for, in a session that may not answer again
	probe   chunker.ID          // is nowhere
	probed  int                 // how often that was answered
	repeats bool                // it answers as often as it is asked
}

// An answer is what one caller waits for.
type answer struct {
	want store.Want
	got  chan struct{} // closed when chunk and err are set
	c    *store.Chunk
	err  error
}

// pull begins a session for the store's chunks.
func (s *Store) pull(ctx context.Context) (*puller, error) {
	p := &puller{asked: map[chunker.ID][]*answer{}, had: map[chunker.ID]bool{}}
	p.handle = p.take
	p.owed = func() bool { return p.load() > 0 }
	c := call{place: s.place, verb: "pull", args: []string{"-", "-", s.place.path}, wants: castp.PullChunks}
	if err := p.begin(ctx, c, s.opt); err != nil {
		return nil, err
	}
	if s.place.scheme == "" { // a helper program would ask a server
		_, _ = rand.Read(p.probe[:]) // never fails
		p.send(p.ask(false, p.probe))
	}
	return p, nil
}

// ask is the job of asking for a chunk.
func (p *puller) ask(urgent bool, id chunker.ID) func(w *castp.Writer) error {
	return func(w *castp.Writer) error { return w.Request(urgent, id) }
}

// gives reports whether the session answers who asks for a chunk now.
func (p *puller) gives(id chunker.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, flying := p.asked[id]
	return flying || !p.had[id]
}

// answered notes that the probe was, and asks again after the first time.
func (p *puller) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.probed++; p.probed == 1 {
		p.send(p.ask(false, p.probe))
		return
	}
	p.repeats, p.had = true, nil
}

// load is how many chunks are under way, those included that nobody waits for any
// more.
func (p *puller) load() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(len(p.asked), p.count)
}

// get asks for a chunk and waits for it. One that is under way already is not asked
// for again: a server need not answer twice.
func (p *puller) get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	a := &answer{want: want, got: make(chan struct{})}
	p.use()
	p.mu.Lock()
	others, flying := p.asked[want.ID]
	if !flying && p.had[want.ID] { // since it was picked
		p.mu.Unlock()
		return nil, errIdle
	}
	if !p.repeats {
		p.had[want.ID] = true
	}
	p.asked[want.ID] = append(others, a)
	p.count++
	p.mu.Unlock()
	if !flying {
		p.send(p.ask(want.Class == store.Demand, want.ID))
	}
	select {
	case <-a.got:
		return a.c, a.err
	case <-p.done:
	case <-ctx.Done():
	}
	p.leave(a)
	select {
	case <-a.got: // in the last moment
		return a.c, a.err
	default:
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if p.err == nil {
		return nil, errIdle
	}
	return nil, p.err
}

// errIdle is for who has to ask on another session: this one is just being ended for
// want of use, or does not give the chunk again.
var errIdle = errors.New("idle")

// leave takes an answer out that nobody waits for. What was asked for is still to
// come.
func (p *puller) leave(a *answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.asked[a.want.ID]
	if i := slices.Index(waiting, a); i >= 0 {
		p.asked[a.want.ID] = slices.Delete(waiting, i, i+1)
		p.count--
	}
}

// take hands over what the far side sends.
func (p *puller) take(m castp.Message, r *castp.Reader) error {
	if m.Type != castp.Chunk && m.Type != castp.Missing {
		return fmt.Errorf("%v, where chunks were asked for", m.Type)
	}
	id := m.IDs[0]
	if m.Type == castp.Missing && id == p.probe {
		p.answered()
		return nil
	}
	if !p.flies(id) {
		return fmt.Errorf("%v for chunk %v, which was not asked for", m.Type, id)
	}
	if m.Type == castp.Missing {
		p.deliver(id, func(a *answer, _ bool) { a.err = &store.MissingError{ID: id, Where: p.where} })
		return nil
	}
	f := store.Form{}
	if m.Flags&castp.Compressed == 0 {
		f.Compression = store.None
	}
	if m.Size > p.limit(id, f) { // the next message is read without it
		p.deliver(id, func(a *answer, _ bool) { a.err = p.tooLong(a, f, m.Size) })
		return nil
	}
	data, free := store.Buffer(m.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		free()
		return err
	}
	kept := false
	p.deliver(id, func(a *answer, last bool) {
		if last {
			kept = p.give(a, f, data, free)
		} else {
			p.give(a, f, data, nil)
		}
	})
	if !kept {
		free()
	}
	return nil
}

// flies reports whether a chunk is under way.
func (p *puller) flies(id chunker.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.asked[id]
	return ok
}

// limit is how long what is sent of a chunk may be: where all have left who know its size,
// as long as any, since others may come before it is here.
func (p *puller) limit(id chunker.ID, f store.Form) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked[id]) == 0 {
		return f.Limit(0)
	}
	limit := 0
	for _, a := range p.asked[id] {
		limit = max(limit, f.Limit(a.want.Size))
	}
	return limit
}

// deliver ends the waiting for a chunk.
func (p *puller) deliver(id chunker.ID, answer func(a *answer, last bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, a := range p.asked[id] {
		answer(a, i == len(p.asked[id])-1)
		close(a.got)
		p.count--
	}
	delete(p.asked, id)
}

// give makes an answer of the bytes that came, and reports whether it has kept them.
// free is nil if others are still to have them: then they are copied.
func (p *puller) give(a *answer, f store.Form, data []byte, free func()) bool {
	if len(data) > f.Limit(a.want.Size) {
		a.err = p.tooLong(a, f, len(data))
		return false
	}
	kept := free != nil
	if !kept {
		var own []byte
		own, free = store.Buffer(len(data))
		copy(own, data)
		data = own
	}
	a.c = store.NewStored(a.want, p.where, f.Compression, data, free)
	return kept
}

func (p *puller) tooLong(a *answer, f store.Form, size int) error {
	return &store.CorruptError{ID: a.want.ID, Where: p.where,
		Err: fmt.Errorf("%d bytes, more than the %d that the chunk can take,", size, f.Limit(a.want.Size))}
}
