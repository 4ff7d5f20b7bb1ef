// Package s3 keeps objects in the buckets of S3 servers: Amazon's, and the many
// that speak its protocol.
//
// A [Bucket] is a bucket, or what is below a prefix in one. It is read through
// store/http: a chunk is one GET, signed here, whose answer is checked as a web
// server's is. minio-go writes, lists and deletes, with its own retries, since
// nobody above does that for what is written.
//
//	b, err := s3.New("s3+https://objects.example.com/images/default.castr", s3.Options{})
//	b, err := s3.New("s3://images/default.castr?region=eu-west-1", s3.Options{})
//
// A location never holds a secret. Who we are is looked up in this order:
// $S3_ACCESS_KEY, $S3_SECRET_KEY and $S3_SESSION_TOKEN; the like variables of
// AWS; [Credentials]; the profile $AWS_PROFILE in ~/.aws/config and
// ~/.aws/credentials. Without any, requests are not signed, as public buckets
// want it. What a file says is read again when the server calls it expired.
//
// Nobody asks for a bucket's region: it is that of the location, of the
// environment, of Credentials or of the profile, else us-east-1, and if the server
// says that it is another one, that is used from then on.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"caravel/store"
	"caravel/store/http"
)

// Options tunes a Bucket. The zero value is a good choice.
type Options struct {
	HTTP        http.Options // of it Client, UserAgent, Stall, Connect and Idle are used
	Credentials Credentials
}

// A Bucket is a bucket, or the part of one whose keys begin with a prefix and a
// slash. Its methods may be called from many goroutines.
type Bucket struct {
	location
	opt   Options
	who   *credentials.Credentials
	place atomic.Pointer[place] // where it is asked for, as far as is known
}

var (
	_ store.Blobs     = (*Bucket)(nil)
	_ store.Statter   = (*Bucket)(nil)
	_ store.Refresher = (*Bucket)(nil)
	_ store.Putter    = (*Bucket)(nil)
	_ store.Lister    = (*Bucket)(nil)
	_ store.Deleter   = (*Bucket)(nil)
	_ store.Locator   = (*Bucket)(nil)
)

// New makes a Bucket of s3+http://HOST/BUCKET[/PREFIX], s3+https://… or
// s3://BUCKET[/PREFIX], which is at Amazon unless $AWS_ENDPOINT_URL_S3 or
// $AWS_ENDPOINT_URL says otherwise. Behind it may stand ?lookup=dns for a server
// that wants the bucket in front of its name, =path for one that wants it behind,
// =auto (dns at Amazon and Google) and, with & between, region=REGION.
func New(url string, opt Options) (*Bucket, error) {
	l, err := parse(url)
	if err != nil {
		return nil, err
	}
	return newBucket(l, opt)
}

// Object makes a Bucket of what is around the object at a URL, and returns its
// name there.
func Object(url string, opt Options) (b *Bucket, name string, err error) {
	l, err := parse(url)
	if err != nil {
		return nil, "", err
	}
	if name, err = l.cutName(); err != nil {
		return nil, "", err
	}
	b, err = newBucket(l, opt)
	return b, name, err
}

func newBucket(l location, opt Options) (*Bucket, error) {
	if opt.HTTP.Client == nil {
		opt.HTTP.Client = http.NewClient(opt.HTTP)
	}
	opt.HTTP.Stall = cmp.Or(opt.HTTP.Stall, 30*time.Second)
	b := &Bucket{location: l, opt: opt}
	var err error
	if b.who, err = opt.Credentials.find(); err != nil {
		return nil, err
	}
	p, err := b.at(l.regionOr(opt.Credentials))
	b.place.Store(p)
	return b, err
}

// String is the location, without what is behind its path.
func (b *Bucket) String() string { return b.shown() }

// Locate is the location of an object.
func (b *Bucket) Locate(name string) string { return b.shown() + "/" + name }

// Open implements store.Blobs with one GET.
func (b *Bucket) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	return b.Refresh(ctx, name, r, store.Info{})
}

// Refresh implements store.Refresher with one GET.
func (b *Bucket) Refresh(ctx context.Context, name string, r store.Range, have store.Info) (body io.ReadCloser, info store.Info, err error) {
	err = b.ask(func(p *place) error {
		body, info, err = p.web.Refresh(ctx, name, r, have)
		return err
	})
	if errors.Is(err, errNoSize) {
		return b.behindEnd(ctx, name, r, err)
	}
	return body, info, err
}

// behindEnd is the answer to a request for bytes of which there are none, by a
// server that does not say where the end is: right behind the last byte there is
// an empty range.
func (b *Bucket) behindEnd(ctx context.Context, name string, r store.Range, why error) (io.ReadCloser, store.Info, error) {
	info, err := b.Stat(ctx, name)
	switch {
	case err != nil:
		return nil, store.Info{}, err
	case r.Tag != "" && info.Tag != r.Tag:
		return nil, store.Info{}, fmt.Errorf("%s: %w", b.Locate(name), store.ErrChanged)
	case r.Off != info.Size:
		return nil, store.Info{}, why
	}
	return io.NopCloser(strings.NewReader("")), info, nil
}

// Stat implements store.Statter with one HEAD.
func (b *Bucket) Stat(ctx context.Context, name string) (info store.Info, err error) {
	err = b.ask(func(p *place) error {
		info, err = p.web.Stat(ctx, name)
		return err
	})
	return info, err
}
