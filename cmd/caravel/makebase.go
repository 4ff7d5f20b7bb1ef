package main

import (
	"context"

	"caravel/catalog"
	"caravel/feature"
	"caravel/image"
	"caravel/internal/redact"
	"caravel/store"
)

// base is the chunks for whose sake no work waits for the store, because former images are in
// there; nil if it does not look so.
func (m *maker) base(ctx context.Context, dst store.Store, f feature.Flags) (*image.Roots, error) {
	if len(m.bases) == 0 || dst == nil || m.checkExisting {
		return nil, nil
	}
	b := &image.Roots{}
	for _, location := range m.bases {
		img, err := catalog.Open(ctx, location, catalog.Options{Open: m.where, Log: m.logger})
		if err != nil {
			return nil, err
		}
		if err := img.Close(); err != nil {
			return nil, err
		}
		b.Add(img.Index)
	}
	id, missing, err := b.Missing(ctx, dst, f.Digest())
	if err != nil {
		return nil, err
	}
	if missing {
		m.logger.Warn("the store has not all of the base, and is asked for every chunk", "chunk", id, "store", redact.URL(m.storePlace()))
		return nil, nil
	}
	return b, nil
}
