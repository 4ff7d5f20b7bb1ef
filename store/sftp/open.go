package sftp

import (
	"context"
	"io"
	"math"
	"time"

	"github.com/pkg/sftp"

	"caravel/store"
)

// Open implements store.Blobs. It takes two round trips; with the second one comes
// the beginning of what was asked for.
func (d *Dir) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	return d.open(ctx, name, r, "")
}

// Refresh implements store.Refresher.
func (d *Dir) Refresh(ctx context.Context, name string, r store.Range, have store.Info) (io.ReadCloser, store.Info, error) {
	return d.open(ctx, name, r, have.Tag)
}

// open reads an object unless it has the tag have, which may be "".
func (d *Dir) open(ctx context.Context, name string, r store.Range, have string) (io.ReadCloser, store.Info, error) {
	path, err := d.path(name)
	switch {
	case err != nil:
		return nil, store.Info{}, err
	case r.Off < 0 || r.Len < 0 || r.Off > math.MaxInt64-r.Len:
		return nil, store.Info{}, d.fail(name, store.ErrRefused, "no range: %d bytes from %d", r.Len, r.Off)
	}
	s, err := d.session(ctx, name)
	if err != nil {
		return nil, store.Info{}, err
	}
	f, err := call(ctx, s, func() (*sftp.File, error) { return s.client.Open(path) }, closeFile)
	if err != nil {
		s.leave()
		return nil, store.Info{}, d.unreadable(name, err)
	}
	b := &body{dir: d, name: name, ctx: ctx, session: s, file: f, next: r.Off}
	info, err := b.begin(r, have)
	if err != nil {
		b.Close()
		return nil, store.Info{}, err
	}
	return b, info, nil
}

// closeFile is for a file that nobody waits for any more.
func closeFile(f *sftp.File) { _ = f.Close() }

// begin asks for the first bytes and, at the same time, what they are of.
func (b *body) begin(r store.Range, have string) (store.Info, error) {
	first := int64(firstBlock)
	if r.Len > 0 {
		first = min(r.Len, lastBlock)
	}
	b.ask(first)
	fi, err := call(b.ctx, b.session, b.file.Stat, nil)
	if err != nil {
		return store.Info{}, b.dir.unreadable(b.name, err)
	}
	info, err := b.dir.describe(b.name, fi)
	if err != nil {
		return store.Info{}, err
	}
	switch tag := store.TimeTag(info.Size, info.ModTime, time.Time{}); {
	case r.Tag != "" && tag != r.Tag:
		return store.Info{}, b.dir.fail(b.name, store.ErrChanged, "%w: its tag is %#q, not %#q", store.ErrChanged, tag, r.Tag)
	case have != "" && info.Tag == have:
		return store.Info{}, b.dir.fail(b.name, store.ErrUnchanged, "%w", store.ErrUnchanged)
	case r.Off > info.Size:
		return store.Info{}, b.dir.fail(b.name, store.ErrRefused, "offset %d is behind the end, which is at %d", r.Off, info.Size)
	}
	b.left = info.Size - r.Off
	if r.Len > 0 {
		b.left = min(b.left, r.Len)
	}
	b.unasked = max(0, b.left-first)
	b.ahead()
	return info, nil
}
