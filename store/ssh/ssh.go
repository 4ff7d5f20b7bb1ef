// Package ssh keeps chunks and indexes where casync's protocol leads: to a casync, a
// caravel or, for reading, a desync at the other end of an ssh, or to one of casync's
// helper programs.
//
//	s, err := ssh.New("user@host:/srv/default.castr", ssh.Options{})
//	defer s.Close()
//	chunk, err := s.Get(ctx, want)
//
// The protocol, docs/formats.md, section 5, knows chunks and not files: so there is a
// [Store] of its own, and no store.Blobs under store.Chunks. An index or archive is
// one object that is sent from its start to its end ([Object]).
//
// # Reading
//
// A session is one process. Requests are sent as they come, one chunk each, since a
// desync answers for the first one only, and answers are taken in any order: with
// many under way, the latency of the link costs nothing. There are up to
// Options.Sessions of these, each begun when those that there are have much to do: one ssh encrypts
// on one core, and one casync reads one chunk at a time. What was asked on a session
// that dies is an error that is worth another try, and the next request begins a new
// one. Sessions that nobody uses end after a minute.
//
// A casync gives a chunk once in a session, and does not even answer who asks for it
// again (the one in Debian, 2+20201210; a caravel and a desync do). So each session is
// asked twice for a chunk that is nowhere, to find out; where that is answered once, a
// chunk is asked for again in another session.
//
// # Writing
//
// The far side of a push asks for the chunks that an index names and its stores have
// not. It does so while the index is still being sent, row by row and in their order:
// this makes a question of a row, whether a chunk is there. To know that the answer
// is no request at all, a row follows that names a chunk which cannot be anywhere;
// when that is asked for, all before it has been looked at, and the chunks that were
// sent before it have been stored. The index of these rows is never finished, so the
// far side never gives it a name. The true one is sent in a session of its own, when
// all chunks are there.
package ssh

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"caravel/chunker"
	"caravel/store"
)

// Options tunes a Store. The zero value is a good choice.
type Options struct {
	Sessions int           // most for reading; 0: one for each core, 4 at most
	Stall    time.Duration // how long a far side that owes an answer may be silent; 0: 30 s
	Idle     time.Duration // after which a session that nobody uses ends; 0: 1 min
}

func (o Options) filled() Options {
	o.Sessions = max(cmp.Or(o.Sessions, min(runtime.GOMAXPROCS(0), 4)), 1)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	o.Idle = cmp.Or(o.Idle, time.Minute)
	return o
}

// A Store keeps chunks on the far side. Its methods may be called from many
// goroutines.
type Store struct {
	place place
	opt   Options
	pool  pool

	opening chan struct{} // holds a value while a session for writing is begun

	mu      sync.Mutex // guards what follows
	pushers map[chunker.Digest]*pusher
	orphans map[chunker.Digest][]*store.Chunk // which sessions that have died may not have stored
}

var _ store.Store = (*Store)(nil)

// New returns the store at a location: ssh://[user@]host[:port]/path, [user@]host:path,
// or a URL for which there is a helper program. Nothing is started yet.
func New(location string, opt Options) (*Store, error) {
	p, err := parse(location)
	if err != nil {
		return nil, err
	}
	s := &Store{place: p, opt: opt.filled(), opening: make(chan struct{}, 1), pushers: map[chunker.Digest]*pusher{}, orphans: map[chunker.Digest][]*store.Chunk{}}
	s.pool.most = s.opt.Sessions
	s.pool.open = s.pull
	return s, nil
}

// Warm begins a session for who will read soon, and does not wait for it. If there can
// be none, who reads will hear why.
func (s *Store) Warm() { s.pool.warm() }

// String is the store's location, without secrets.
func (s *Store) String() string { return s.place.String() }

// Get asks the far side for a chunk.
func (s *Store) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for {
		p, err := s.pool.pick(ctx, want.ID)
		if err != nil {
			return nil, err
		}
		c, err := p.get(ctx, want)
		if !errors.Is(err, errIdle) {
			return c, err
		}
	}
}

// Has asks the far side for a chunk, which sends it: there is no other question.
func (s *Store) Has(ctx context.Context, want store.Want) (bool, error) {
	c, err := s.Get(ctx, want)
	if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.Release()
	return true, nil
}

// Close ends all sessions, and waits for their processes. Chunks that were put and not
// synced may be lost.
func (s *Store) Close() error {
	s.pool.close()
	s.mu.Lock()
	pushers, orphans := s.pushers, s.orphans
	s.pushers, s.orphans = map[chunker.Digest]*pusher{}, map[chunker.Digest][]*store.Chunk{}
	s.mu.Unlock()
	for d, p := range pushers {
		p.fail(errClosed)
		<-p.done
		orphans[d] = append(orphans[d], p.left()...)
	}
	for _, left := range orphans {
		for _, c := range left {
			c.Release()
		}
	}
	return nil
}

// errClosed is why a session is over that nobody wants any more.
var errClosed = errors.New("closed")
