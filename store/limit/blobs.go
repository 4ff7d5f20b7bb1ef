package limit

import (
	"context"
	"io"
	"sync"

	"caravel/store"
)

// Blobs is b within limits. It can do what b can: put, list, delete, and as far as
// store.Chunks knows a substitute, describe, refresh and locate.
func Blobs(b store.Blobs, l Limits) store.Blobs {
	if l.none() {
		return b
	}
	limited := &blobs{b, l}
	putter, puts := b.(store.Putter)
	lister, lists := b.(store.Lister)
	deleter, deletes := b.(store.Deleter)
	put := limitedPutter{putter, l}
	switch {
	case puts && lists && deletes:
		return struct {
			*blobs
			store.Putter
			store.Lister
			store.Deleter
		}{limited, put, lister, deleter}
	case puts && lists:
		return struct {
			*blobs
			store.Putter
			store.Lister
		}{limited, put, lister}
	case puts && deletes:
		return struct {
			*blobs
			store.Putter
			store.Deleter
		}{limited, put, deleter}
	case puts:
		return struct {
			*blobs
			store.Putter
		}{limited, put}
	case lists && deletes:
		return struct {
			*blobs
			store.Lister
			store.Deleter
		}{limited, lister, deleter}
	case lists:
		return struct {
			*blobs
			store.Lister
		}{limited, lister}
	case deletes:
		return struct {
			*blobs
			store.Deleter
		}{limited, deleter}
	}
	return limited
}

// blobs reads within limits.
type blobs struct {
	store.Blobs
	limits Limits
}

var (
	_ store.Statter   = (*blobs)(nil)
	_ store.Refresher = (*blobs)(nil)
	_ store.Locator   = (*blobs)(nil)
)

func (b *blobs) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	return b.begin(ctx, func() (io.ReadCloser, store.Info, error) { return b.Blobs.Open(ctx, name, r) })
}

// Refresh is Open where the backend cannot tell one version from another.
func (b *blobs) Refresh(ctx context.Context, name string, r store.Range, have store.Info) (io.ReadCloser, store.Info, error) {
	refresher, ok := b.Blobs.(store.Refresher)
	if !ok {
		return b.Open(ctx, name, r)
	}
	return b.begin(ctx, func() (io.ReadCloser, store.Info, error) { return refresher.Refresh(ctx, name, r, have) })
}

// begin makes a request, which has its slot until its body is closed.
func (b *blobs) begin(ctx context.Context, open func() (io.ReadCloser, store.Info, error)) (io.ReadCloser, store.Info, error) {
	leave, err := b.limits.Requests.enter(ctx)
	if err != nil {
		return nil, store.Info{}, err
	}
	from, info, err := open()
	if err != nil {
		leave()
		return nil, info, err
	}
	return &body{ReadCloser: from, ctx: ctx, down: b.limits.Down, leave: sync.OnceFunc(leave)}, info, nil
}

func (b *blobs) Stat(ctx context.Context, name string) (store.Info, error) {
	s, ok := b.Blobs.(store.Statter)
	if !ok {
		body, info, err := b.Open(ctx, name, store.Range{})
		if err != nil {
			return store.Info{}, err
		}
		return info, body.Close()
	}
	leave, err := b.limits.Requests.enter(ctx)
	if err != nil {
		return store.Info{}, err
	}
	defer leave()
	return s.Stat(ctx, name)
}

func (b *blobs) Locate(name string) string {
	if l, ok := b.Blobs.(store.Locator); ok {
		return l.Locate(name)
	}
	return b.String() + "/" + name
}

// A body is what comes of one request.
type body struct {
	io.ReadCloser
	ctx   context.Context // of the request
	down  []*Bucket
	leave func()
}

// Read asks for a part of p at most, so that a slow rate is a steady one.
func (b *body) Read(p []byte) (int, error) {
	const most = 64 << 10
	if len(b.down) > 0 && len(p) > most {
		p = p[:most]
	}
	n, err := b.ReadCloser.Read(p)
	if waited := take(b.ctx, b.down, n); waited != nil {
		return n, waited
	}
	return n, err
}

func (b *body) Close() error {
	defer b.leave()
	return b.ReadCloser.Close()
}

// limitedPutter writes within limits.
type limitedPutter struct {
	to     store.Putter
	limits Limits
}

func (p limitedPutter) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	leave, err := p.limits.Requests.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if len(p.limits.Up) > 0 {
		r = newUpload(ctx, r, p.limits.Up)
	}
	return p.to.Put(ctx, name, r, size)
}

func (p limitedPutter) Sync(ctx context.Context) error { return p.to.Sync(ctx) }

// newUpload is r at the speed of up. It can be rewound, by who sends it again, if r can.
func newUpload(ctx context.Context, r io.Reader, up []*Bucket) io.Reader {
	u := upload{ctx, r, up}
	if s, ok := r.(io.Seeker); ok {
		return struct {
			upload
			io.Seeker
		}{u, s}
	}
	return u
}

// upload is what is sent.
type upload struct {
	ctx  context.Context
	from io.Reader
	up   []*Bucket
}

// Read asks for a part of p at most, so that a slow rate is a steady one.
func (u upload) Read(p []byte) (int, error) {
	const most = 16 << 10
	if len(p) > most {
		p = p[:most]
	}
	n, err := u.from.Read(p)
	if waited := take(u.ctx, u.up, n); waited != nil {
		return n, waited
	}
	return n, err
}
