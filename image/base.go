package image

import (
	"context"

	"caravel/chunker"
	"caravel/store"
)

// samples is how many chunks of former images are asked for: a store that lacks one in 20 is
// found out 19 times in 20.
const samples = 64

// Missing asks a store for some of the chunks, spread over all, and returns one
// that it has not got; false if it has all of them. Since a chunk's place is its digest, what
// was removed of one image lies anywhere.
func (r *Roots) Missing(ctx context.Context, s store.Store, d chunker.Digest) (chunker.ID, bool, error) {
	r.sort()
	n := min(samples, len(r.ids))
	for i := range n {
		id := r.ids[i*len(r.ids)/n]
		if ok, err := s.Has(ctx, store.Want{ID: id, Digest: d}); err != nil || !ok {
			return id, err == nil, err
		}
	}
	return chunker.ID{}, false, nil
}
