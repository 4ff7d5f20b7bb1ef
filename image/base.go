package image

import (
	"context"
	"slices"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// A Base is the chunks of former images, in order.
type Base []chunker.ID

// NewBase is the chunks of some images.
func NewBase(images ...*index.Index) Base {
	var b Base
	for _, x := range images {
		for i := range x.Len() {
			b = append(b, x.Chunk(i).ID)
		}
	}
	slices.SortFunc(b, compareIDs)
	return slices.Compact(b)
}

func (b Base) has(id chunker.ID) bool {
	_, ok := slices.BinarySearchFunc(b, id, compareIDs)
	return ok
}

// samples is how many chunks of a base are asked for: a store that lacks one in 20 is found
// out 19 times in 20.
const samples = 64

// Missing asks a store for some chunks of the base, spread over all, and returns one
// that it has not got; false if it has all of them. Since a chunk's place is its digest, what
// was removed of one image lies anywhere.
func (b Base) Missing(ctx context.Context, s store.Store, d chunker.Digest) (chunker.ID, bool, error) {
	for i := range min(samples, len(b)) {
		id := b[i*len(b)/min(samples, len(b))]
		if ok, err := s.Has(ctx, store.Want{ID: id, Digest: d}); err != nil || !ok {
			return id, err == nil, err
		}
	}
	return chunker.ID{}, false, nil
}
