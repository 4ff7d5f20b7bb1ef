package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"caravel/store"
)

// SurveyOptions tunes Survey and Stored. The zero value is a good choice.
type SurveyOptions struct {
	InFlight int           // chunks that one store is asked for at one time; 0: 128
	Progress *atomic.Int64 // counts the plain bytes of chunks that were asked for, once a store; nil: nobody looks
}

// Survey asks all stores at the same time for the chunks, and says for each store, and
// each of the chunks, whether it has it. Nothing is fetched. That a store does not
// answer is an error.
func Survey(ctx context.Context, u *Unique, stores []store.Store, opt SurveyOptions) ([][]bool, error) {
	there := make([][]bool, len(stores))
	all, ctx := errgroup.WithContext(ctx)
	for i, s := range stores {
		there[i] = make([]bool, len(u.Rows))
		all.Go(func() error {
			return u.each(ctx, opt, func(ctx context.Context, place int) (err error) {
				c := u.Chunk(place)
				there[i][place], err = s.Has(ctx, store.Want{ID: c.ID, Size: c.Size, Digest: u.Index.Digest()})
				return err
			})
		})
	}
	return there, all.Wait()
}

// Stored says how many bytes each of the chunks takes in a backend, where chunks have
// the form f; -1 for one that is not there.
func Stored(ctx context.Context, u *Unique, b store.Blobs, f store.Form, opt SurveyOptions) ([]int64, error) {
	stat, ok := b.(store.Statter)
	if !ok {
		return nil, fmt.Errorf("image: %v: does not say how large its chunks are", b)
	}
	sizes := make([]int64, len(u.Rows))
	return sizes, u.each(ctx, opt, func(ctx context.Context, place int) error {
		info, err := stat.Stat(ctx, f.Name(u.Chunk(place).ID))
		if errors.Is(err, store.ErrMissing) {
			info.Size, err = -1, nil
		}
		sizes[place] = info.Size
		return err
	})
}

// each does something for each of the chunks, several at one time, up to the first error.
func (u *Unique) each(ctx context.Context, opt SurveyOptions, do func(ctx context.Context, place int) error) error {
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(opt.InFlight, defaultInFlight))
	for place := range u.Rows {
		if each.Err() != nil {
			break
		}
		g.Go(func() error {
			err := do(each, place)
			if opt.Progress != nil {
				opt.Progress.Add(int64(u.Chunk(place).Size))
			}
			return err
		})
	}
	return cmp.Or(g.Wait(), context.Cause(ctx))
}
