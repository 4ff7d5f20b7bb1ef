package store

import (
	"context"

	"caravel/chunker"
)

// Verify passes on only chunks whose bytes match their ID; Get returns a
// *CorruptError for others. A chunk that is verified already costs nothing.
func Verify(s Store) Store { return verified{s} }

// verified hides that the store that it wraps may be a Writer: what is written
// through it would not be verified.
type verified struct{ Store }

func (v verified) Get(ctx context.Context, want Want) (*Chunk, error) {
	c, err := v.Store.Get(ctx, want)
	if err != nil {
		return nil, err
	}
	if err := c.Verify(); err != nil {
		c.Release()
		return nil, err
	}
	return c, nil
}

// VerifyAll is Verify for several chunks, whose digests are computed together: that takes a
// fraction of the time. The errors are in the order of the chunks, nil for those that are
// what they should be.
func VerifyAll(chunks []*Chunk) []error {
	errs := make([]error, len(chunks))
	var plains [2][][]byte // by digest
	var places [2][]int
	for i, c := range chunks {
		if c.verified.Load() {
			continue
		}
		plain, err := c.Plain()
		if err != nil {
			errs[i] = err
			continue
		}
		by := 0
		if c.want.Digest == chunker.SHA256 {
			by = 1
		}
		plains[by], places[by] = append(plains[by], plain), append(places[by], i)
	}
	for by, digest := range []chunker.Digest{chunker.SHA512_256, chunker.SHA256} {
		ids := make([]chunker.ID, len(plains[by]))
		digest.Sums(ids, plains[by])
		for k, i := range places[by] {
			errs[i] = chunks[i].compare(ids[k])
		}
	}
	return errs
}
