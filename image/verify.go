package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"caravel/chunker"
	"caravel/store"
)

// VerifyOptions tunes Verify. The zero value is a good choice.
type VerifyOptions struct {
	Key      *store.Key       // of encrypted chunks; those of others cannot be verified
	Digests  []chunker.Digest // a chunk's ID is one of these of it; none: SHA-512/256 or SHA-256
	Workers  int              // chunks at one time; 0: 16
	Patience time.Duration    // how long what fails for a moment is tried again; 0: not at all, < 0: for ever
	Progress *atomic.Int64    // counts bytes as they are stored; nil: nobody looks

	// Repair replaces bad chunks by what From gives, and puts those aside that it does
	// not give.
	Repair bool
	From   store.Store // nil: all are put aside

	// Found, if set, is told of everything that is not a good chunk, by one goroutine
	// at a time.
	Found func(Finding)
}

// A Finding is something in a store that is not a good chunk.
type Finding struct {
	Kind     FindingKind
	Name     string // of the object
	Err      error  // why it is bad, or could not be repaired; may be nil
	Repaired bool   // it is good now
	Aside    bool   // it has another name now, which ends in .damaged
}

// A FindingKind is what is the matter with an object.
type FindingKind uint8

// The kinds of findings.
const (
	BadChunk   FindingKind = iota // not the chunk that its name says
	Unreadable                    // nobody knows what it is
	OtherKey                      // a chunk that is encrypted with another key
	PutAside                      // was a bad chunk once
	Unfinished                    // left by a writer that was killed, or written just now
	Foreign                       // no chunk at all
)

// String is the kind's name.
func (k FindingKind) String() string {
	return [...]string{"bad", "unreadable", "other-key", "put-aside", "unfinished", "foreign"}[k]
}

// Verified is what Verify has looked at.
type Verified struct {
	Chunks int64 // good ones, those that were repaired among them
	Bytes  int64 // of all chunks, as they are stored
	Found  [Foreign + 1]int64
	Fixed  int64 // bad chunks that are good now; those that were put aside are not
}

// Bad is how many chunks are damaged, or may be, after all that was repaired.
func (v Verified) Bad() int64 { return v.Found[BadChunk] - v.Fixed + v.Found[Unreadable] }

// aside is what the names of bad chunks end in that were put aside.
const aside = ".damaged"

// Verify reads every chunk that a backend holds, in whichever form, decodes it and
// compares its digest with its name. What is wrong with chunks is a Finding, no
// error. b has to be a store.Lister, and to repair a store.Putter and a
// store.Deleter.
func Verify(ctx context.Context, b store.Blobs, opt VerifyOptions) (Verified, error) {
	list, ok := b.(store.Lister)
	if !ok {
		return Verified{}, fmt.Errorf("image: %v: does not say which chunks it has; verify it where they lie", b)
	}
	v := &verifying{blobs: b, opt: opt}
	if len(opt.Digests) == 0 {
		v.opt.Digests = []chunker.Digest{chunker.SHA512_256, chunker.SHA256}
	}
	if opt.Repair {
		var puts, deletes bool
		v.putter, puts = b.(store.Putter)
		v.deleter, deletes = b.(store.Deleter)
		if !puts || !deletes {
			return Verified{}, fmt.Errorf("image: %v: can only be read, so nothing can be repaired", b)
		}
	}
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(opt.Workers, 16))
	for name, err := range names(each, list) {
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		if each.Err() != nil {
			break
		}
		g.Go(func() error { return v.look(each, name) })
	}
	err := g.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil && v.changed.Load() {
		err = v.putter.Sync(ctx)
	}
	return v.got, err
}

// verifying is one Verify.
type verifying struct {
	blobs   store.Blobs
	opt     VerifyOptions
	putter  store.Putter
	deleter store.Deleter
	changed atomic.Bool
	digest  atomic.Int32 // the place in opt.Digests of the one that was right last

	mu  sync.Mutex // guards got, and that Found is called by one
	got Verified
}

// look looks at one object. Its error ends all: ctx has.
func (v *verifying) look(ctx context.Context, name string) error {
	n, isChunk := store.ParseName(name)
	switch bad, put := strings.CutSuffix(name, aside); {
	case store.Unfinished(name):
		v.found(Finding{Kind: Unfinished, Name: name})
		return nil
	case !isChunk:
		if _, was := store.ParseName(bad); put && was {
			v.found(Finding{Kind: PutAside, Name: name})
			return nil
		}
		v.found(Finding{Kind: Foreign, Name: name})
		return nil
	case n.Key != "" && (v.opt.Key == nil || n.Key != v.opt.Key.String()):
		v.found(Finding{Kind: OtherKey, Name: name})
		return nil
	}
	f := store.Form{}
	if !n.Packed {
		f.Compression = store.None
	}
	if n.Key != "" {
		f.Key = v.opt.Key
	}
	size, err := v.read(ctx, n.ID, f)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v.count(size)
	switch {
	case err == nil:
		v.good()
	case errors.Is(err, store.ErrMissing): // removed since it was listed
	case errors.Is(err, store.ErrCorrupt):
		v.bad(ctx, n.ID, f, name, err)
	default:
		v.found(Finding{Kind: Unreadable, Name: name, Err: err})
	}
	return ctx.Err()
}

// read verifies a chunk in the form f with one digest after the other, and
// returns how many bytes it takes as it is stored.
func (v *verifying) read(ctx context.Context, id chunker.ID, f store.Form) (size int, err error) {
	from := store.Chunks(v.blobs, f)
	if v.opt.Patience != 0 {
		from = store.Retry(from, v.opt.Patience)
	}
	first := int(v.digest.Load())
	var bad error // by the digest that was right last
	for i := range v.opt.Digests {
		at := (first + i) % len(v.opt.Digests)
		var c *store.Chunk
		if c, err = from.Get(ctx, store.Want{ID: id, Digest: v.opt.Digests[at]}); err != nil {
			return size, err
		}
		size, err = c.Came(), c.Verify()
		c.Release()
		if err == nil {
			v.digest.Store(int32(at))
			return size, nil
		}
		if corrupt := (*store.CorruptError)(nil); errors.As(err, &corrupt) && corrupt.Err != nil {
			return size, err // no digest can be taken
		}
		bad = cmp.Or(bad, err)
	}
	return size, bad
}

// bad repairs a chunk, if that is wanted, and reports it.
func (v *verifying) bad(ctx context.Context, id chunker.ID, f store.Form, name string, why error) {
	finding := Finding{Kind: BadChunk, Name: name, Err: why}
	if v.opt.Repair {
		err := v.again(ctx, id, f)
		if finding.Repaired = err == nil; err != nil && ctx.Err() == nil {
			err = v.putAside(ctx, name)
			finding.Aside = err == nil
		}
		if err != nil {
			finding.Err = fmt.Errorf("%w; it cannot be put aside: %w", why, err)
		}
	}
	v.found(finding)
	if finding.Repaired {
		v.good()
	}
}

// again puts what From has in the place of a chunk.
func (v *verifying) again(ctx context.Context, id chunker.ID, f store.Form) error {
	if v.opt.From == nil {
		return &store.MissingError{ID: id, Where: "any other store: there is none"}
	}
	to, err := store.Writable(v.blobs, f)
	if err != nil {
		return err
	}
	from := store.Verify(v.opt.From)
	var c *store.Chunk
	for _, d := range v.opt.Digests {
		if c, err = from.Get(ctx, store.Want{ID: id, Digest: d}); err == nil {
			defer c.Release()
			v.changed.Store(true)
			return to.Put(ctx, c)
		}
	}
	return err
}

// putAside gives a bad chunk another name.
func (v *verifying) putAside(ctx context.Context, name string) error {
	body, info, err := v.blobs.Open(ctx, name, store.Range{})
	if err != nil {
		return err
	}
	defer body.Close()
	v.changed.Store(true)
	if err := v.putter.Put(ctx, name+aside, body, info.Size); err != nil {
		return err
	}
	return v.deleter.Delete(ctx, name)
}

// names are those of all objects of a backend that can list them, with what writers have
// left there, as far as it tells: store.Unfinished knows these.
func names(ctx context.Context, b store.Lister) iter.Seq2[string, error] {
	if all, ok := b.(interface {
		ListAll(ctx context.Context) iter.Seq2[string, error]
	}); ok {
		return all.ListAll(ctx)
	}
	return b.List(ctx, "")
}

func (v *verifying) found(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.got.Found[f.Kind]++
	if f.Repaired {
		v.got.Fixed++
	}
	if v.opt.Found != nil {
		v.opt.Found(f)
	}
}

func (v *verifying) good() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.got.Chunks++
}

func (v *verifying) count(bytes int) {
	v.mu.Lock()
	v.got.Bytes += int64(bytes)
	v.mu.Unlock()
	if v.opt.Progress != nil {
		v.opt.Progress.Add(int64(bytes))
	}
}
