package open

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"caravel/store"
)

// The pauses between tries: the first one, and the longest.
const (
	firstPause   = 100 * time.Millisecond // if nobody says it
	longestPause = 5 * time.Second

	// patience is how long to try in silence: after that, whoever waits shall
	// know for what. It may be a mistyped address.
	patience = 2 * time.Second
)

// A resumed is an object that is read through interruptions.
type resumed struct {
	ctx     context.Context // of the one who reads
	blobs   store.Blobs
	name    string
	timeout time.Duration // without a byte; < 0: for ever
	most    int           // tries without a byte; 0: any number
	first   time.Duration // pause before the second one
	log     *slog.Logger

	body io.ReadCloser // nil before the first answer
	info store.Info
	want store.Range // what was asked for
	have store.Info  // nothing is read of this version; zero: of none
	off  int64       // of the next byte

	tries int       // since a byte came
	since time.Time // of the first of them
	pause time.Duration
	took  time.Duration // by the last of them
	said  bool          // that it is tried again
}

// resume opens an object, or a part of it, to be read whole, unless it is the
// version in have.
func resume(ctx context.Context, b store.Blobs, name string, want store.Range, have store.Info, opt Options) (io.ReadCloser, store.Info, error) {
	r := &resumed{ctx: ctx, blobs: b, name: name, want: want, have: have, off: want.Off, timeout: cmp.Or(opt.Timeout, time.Minute), most: opt.Tries, first: max(cmp.Or(opt.Pause, firstPause), 2), log: opt.Log}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.progress()
	if err := r.connect(nil); err != nil {
		return nil, store.Info{}, err
	}
	return r, r.info, nil
}

func (r *resumed) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.off += int64(n)
		if n > 0 {
			r.progress()
		}
		switch {
		case err == nil, err == io.EOF, !r.resumable():
			return n, err
		case n > 0:
			return n, nil // the next Read finds the body broken still
		}
		if err := r.connect(err); err != nil {
			return 0, err
		}
	}
}

func (r *resumed) Close() error { return r.body.Close() }

// progress forgets earlier tries.
func (r *resumed) progress() { r.tries, r.since, r.pause = 0, time.Now(), r.first }

// resumable reports whether a second answer could be told from one about
// another version.
func (r *resumed) resumable() bool {
	return r.off == r.want.Off || r.info.Tag != "" || !r.info.ModTime.IsZero()
}

// connect opens the object where the last body broke, until that works or is of
// no use; err is why it broke, nil at first.
func (r *resumed) connect(err error) error {
	for {
		if err != nil {
			if err = r.rest(err); err != nil {
				return err
			}
		}
		r.tries++
		if err = r.open(); err == nil {
			return nil
		}
	}
}

func (r *resumed) open() error {
	began := time.Now()
	defer func() { r.took = time.Since(began) }()
	rest := store.Range{Off: r.off, Tag: cmp.Or(r.want.Tag, r.info.Tag)}
	if r.want.Len > 0 {
		rest.Len = r.want.Off + r.want.Len - r.off
	}
	body, info, err := r.ask(rest)
	switch {
	case err != nil:
		return err
	case r.body == nil:
		r.body, r.info = body, info
		return nil
	case !sameVersion(r.info, info):
		body.Close()
		return fmt.Errorf("open: %s in %s: %w", r.name, r.blobs, store.ErrChanged)
	}
	r.body.Close() // it is broken
	r.body = body
	return nil
}

// ask is the request for what is missing.
func (r *resumed) ask(rest store.Range) (io.ReadCloser, store.Info, error) {
	if b, ok := r.blobs.(store.Refresher); ok && r.body == nil && r.have != (store.Info{}) {
		return b.Refresh(r.ctx, r.name, rest, r.have)
	}
	return r.blobs.Open(r.ctx, r.name, rest)
}

// rest waits before the next try, or returns err if that is of no use.
func (r *resumed) rest(err error) error {
	if r.ctx.Err() != nil {
		return err
	}
	if store.Final(err) {
		return err
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
		return err // a mistyped name; of a host that was there before, fetch asks again
	}
	wait := r.pause/2 + rand.N(r.pause/2)
	if busy := (*store.BusyError)(nil); errors.As(err, &busy) {
		wait = max(wait, busy.After)
	}
	// A server that did not answer will take as long to do so again.
	tried := time.Since(r.since)
	if r.most > 0 && r.tries >= r.most || r.timeout >= 0 && tried+wait+r.took > r.timeout {
		return fmt.Errorf("%w (tried %d times in %v)", err, r.tries, tried.Round(time.Millisecond))
	}
	if !r.said && tried > patience {
		r.said = true
		r.log.Warn("asking again until the time is over", "timeout", r.timeout, "err", err)
	}
	select {
	case <-time.After(wait):
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
	r.pause = min(2*r.pause, max(longestPause, r.first))
	return nil
}
