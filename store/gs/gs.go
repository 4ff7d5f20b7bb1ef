// Package gs keeps named objects in buckets of Google Cloud Storage.
//
//	bucket, err := gs.New("gs://images/default.castr", gs.Options{})
//	body, info, err := bucket.Open(ctx, "1a2b/1a2b….cacnk", store.Range{})
//
// What it speaks is the XML API, which is HTTP with a token: so store/http does the
// work, and golang.org/x/oauth2 finds the token, as the application default credentials
// of Google's own programs. Their client library does the same with more requests in
// between, knows no limit for a server that is silent, and makes a program 27 MB larger
// (v1.70, stripped).
package gs

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/http"
)

// service is where the buckets are.
const service = "https://storage.googleapis.com"

// scope is what the token is for: to read and to write objects.
const scope = "https://www.googleapis.com/auth/devstorage.read_write"

// Options tunes a Bucket. The zero value is a good choice.
type Options struct {
	// HTTP is how the service is reached. With an Authorization in it, no credentials
	// are looked for.
	HTTP http.Options

	// Emulator is the host and port, or the URL, of a server that stands for Google's and
	// wants no credentials; "": there is none.
	Emulator string
}

// A Bucket is a folder in one. Its methods may be called from many goroutines.
type Bucket struct {
	web      *http.Web
	opt      http.Options
	endpoint string
	name     string // of the bucket
	folder   string // of the objects in it, with a slash at the end; or ""
}

var (
	_ store.Blobs     = (*Bucket)(nil)
	_ store.Refresher = (*Bucket)(nil)
	_ store.Statter   = (*Bucket)(nil)
	_ store.Putter    = (*Bucket)(nil)
	_ store.Lister    = (*Bucket)(nil)
	_ store.Deleter   = (*Bucket)(nil)
	_ store.Locator   = (*Bucket)(nil)
)

// New makes a Bucket of a URL gs://BUCKET/FOLDER. Nothing is asked yet, nor are
// credentials looked for.
func New(location string, opt Options) (*Bucket, error) {
	bucket, folder, err := parse(location)
	if err != nil {
		return nil, err
	}
	b := &Bucket{opt: opt.HTTP, endpoint: service, name: bucket}
	if folder = strings.Trim(folder, "/"); folder != "" {
		b.folder = folder + "/"
	}
	switch {
	case opt.Emulator != "":
		b.endpoint = strings.TrimRight(opt.Emulator, "/")
		if !strings.Contains(b.endpoint, "://") {
			b.endpoint = "http://" + b.endpoint
		}
	case b.opt.Authorization == nil && b.opt.Header.Get("Authorization") == "":
		b.opt.Authorization = (&credentials{}).authorization
	}
	b.web, err = http.New(b.endpoint+(&url.URL{Path: "/" + bucket + "/" + b.folder}).EscapedPath(), b.opt)
	return b, err
}

// Object makes a Bucket of the folder of one object, and returns the object's name
// there.
func Object(location string, opt Options) (*Bucket, string, error) {
	bucket, path, err := parse(location)
	if err != nil {
		return nil, "", err
	}
	slash := strings.LastIndexByte(path, '/')
	name := path[slash+1:]
	if name == "" {
		return nil, "", fmt.Errorf("gs: %s: names a bucket, or a folder in it, and not an object", redact.URL(location))
	}
	b, err := New("gs://"+bucket+(&url.URL{Path: "/" + path[:slash+1]}).EscapedPath(), opt)
	return b, name, err
}

func parse(location string) (bucket, path string, err error) {
	u, err := url.Parse(location)
	switch {
	case err != nil: // its text may show a password
		return "", "", fmt.Errorf("gs: %s: malformed URL", redact.URL(location))
	case u.Scheme != "gs":
		return "", "", fmt.Errorf("gs: %s: not a gs URL", redact.URL(location))
	case u.Host == "" || u.Port() != "":
		return "", "", fmt.Errorf("gs: %s: names no bucket", redact.URL(location))
	case u.User != nil:
		return "", "", fmt.Errorf("gs: %s: credentials do not belong into a URL", redact.URL(location))
	case u.RawQuery != "" || u.Fragment != "":
		return "", "", fmt.Errorf("gs: %s: a ? in a name is written %%3F, and a # %%23", redact.URL(location))
	}
	return u.Host, strings.TrimPrefix(u.Path, "/"), nil
}

// credentials are looked for when they are needed first: outside of Google's machines
// that may take a second, if there are none.
type credentials struct {
	once   sync.Once
	source oauth2.TokenSource // nil: we are nobody
}

// authorization is the header's value; "": none.
func (c *credentials) authorization() (string, error) {
	c.once.Do(func() {
		if found, err := google.FindDefaultCredentials(context.Background(), scope); err == nil {
			c.source = found.TokenSource
		}
	})
	if c.source == nil {
		return "", nil
	}
	token, err := c.source.Token()
	if err != nil {
		return "", err
	}
	return cmp.Or(token.TokenType, "Bearer") + " " + token.AccessToken, nil
}

// String is the folder's URL.
func (b *Bucket) String() string { return strings.TrimRight(b.Locate(""), "/") }

// Locate is the URL of an object.
func (b *Bucket) Locate(name string) string { return "gs://" + b.name + "/" + b.folder + name }

// explain says of what an error is, and what to do if nobody has let us in.
func (b *Bucket) explain(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", b.Locate(name), err)
}

// Open implements store.Blobs with one GET.
func (b *Bucket) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	body, info, err := b.web.Open(ctx, name, r)
	return body, info, b.explain(name, err)
}

// Refresh implements store.Refresher with one GET.
func (b *Bucket) Refresh(ctx context.Context, name string, r store.Range, have store.Info) (io.ReadCloser, store.Info, error) {
	body, info, err := b.web.Refresh(ctx, name, r, have)
	return body, info, b.explain(name, err)
}

// Stat implements store.Statter with one HEAD.
func (b *Bucket) Stat(ctx context.Context, name string) (store.Info, error) {
	info, err := b.web.Stat(ctx, name)
	return info, b.explain(name, err)
}

// Put implements store.Putter with one PUT.
func (b *Bucket) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	return b.explain(name, b.web.Put(ctx, name, r, size))
}

// Sync does nothing: what is acknowledged is kept.
func (b *Bucket) Sync(ctx context.Context) error { return b.web.Sync(ctx) }

// Delete implements store.Deleter with one DELETE.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	return b.explain(name, b.web.Delete(ctx, name))
}
