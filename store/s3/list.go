package s3

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/minio/minio-go/v7"

	"caravel/store"
)

// List implements store.Lister with one request for each thousand names. What ends
// in a slash is a folder that another program has made, and skipped.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if ctx.Err() != nil {
			yield("", context.Cause(ctx))
			return
		}
		going, given := true, false
		err := b.ask(func(p *place) error {
			opt := minio.ListObjectsOptions{Prefix: b.key(prefix), Recursive: true}
			for o := range p.client.ListObjectsIter(ctx, b.bucket, opt) {
				if o.Err != nil {
					err := b.failed(ctx, prefix, o.Err)
					if given {
						going = yield("", err)
						return nil // not from the start again
					}
					return err
				}
				name, ok := strings.CutPrefix(o.Key, b.key(""))
				if !ok || strings.HasSuffix(name, "/") {
					continue
				}
				given = true
				if going = yield(name, nil); !going {
					return nil
				}
			}
			return context.Cause(ctx)
		})
		if err != nil && going {
			yield("", err)
		}
	}
}

// Delete implements store.Deleter with one request.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := b.checkName(name); err != nil {
		return err
	}
	err := b.ask(func(p *place) error {
		if err := p.client.RemoveObject(ctx, b.bucket, b.key(name), minio.RemoveObjectOptions{}); err != nil {
			return b.failed(ctx, name, err)
		}
		return nil
	})
	if errors.Is(err, store.ErrMissing) {
		return nil
	}
	return err
}
