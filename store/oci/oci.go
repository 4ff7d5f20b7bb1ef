// Package oci keeps named objects in a repository of an OCI registry, as desync keeps
// chunks there: an object is an artifact of one layer under a tag.
//
//	repo, err := oci.New("oci+https://registry.example.com/images/default.castr", oci.Options{})
//	body, info, err := repo.Open(ctx, "1a2b/1a2b….cacnk", store.Range{})
//
// To read one takes two requests, of the manifest and of the blob, which store/http
// makes, with all that it checks; to write one takes five, which oras does. The tag
// comes last, so who reads never sees half an object.
//
// A tag has letters, digits and a few signs, up to 128, and no slash. That of a chunk
// is its ID and ending, as in desync; see tagOf for that of any other name. Who reads
// with desync sees the chunks, and nothing else.
package oci

import (
	"cmp"
	"fmt"
	nethttp "net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/http"
)

// Options tunes a Repository. The zero value is a good choice.
type Options struct {
	HTTP           http.Options // of which Client is shared, and Stall is the longest wait here too
	User, Password string       // ""/"": those that docker and podman have stored for the registry, or nobody
}

// A Repository is one of a registry. Its methods may be called from many goroutines.
type Repository struct {
	shown     string // its URL
	manifests *http.Web
	blobs     *http.Web
	remote    *remote.Repository // to write
	tags      *remote.Repository // to list
	stall     time.Duration

	empty    sync.Mutex // held while that blob is sent
	hasEmpty bool       // the registry has it; guarded by empty
}

var (
	_ store.Blobs     = (*Repository)(nil)
	_ store.Refresher = (*Repository)(nil)
	_ store.Statter   = (*Repository)(nil)
	_ store.Putter    = (*Repository)(nil)
	_ store.Lister    = (*Repository)(nil)
	_ store.Deleter   = (*Repository)(nil)
	_ store.Locator   = (*Repository)(nil)
)

// New makes a Repository of an oci+https or oci+http URL: host and name. Nothing is
// asked yet.
func New(location string, opt Options) (*Repository, error) {
	u, err := parse(location)
	if err != nil {
		return nil, err
	}
	ref := registry.Reference{Registry: u.Host, Repository: strings.Trim(u.Path, "/")}
	if err := ref.ValidateRegistry(); err != nil {
		return nil, fmt.Errorf("%s: names no registry", redact.URL(location))
	}
	if err := ref.ValidateRepository(); err != nil {
		return nil, fmt.Errorf("%s: %q is no name of a repository: lower case letters, digits, and one of . _ - between them", redact.URL(location), ref.Repository)
	}
	web := strings.TrimPrefix(u.Scheme, "oci+")
	client := newClient(ref, opt)
	repo := &Repository{
		shown:  u.Scheme + "://" + ref.Registry + "/" + ref.Repository,
		remote: &remote.Repository{Client: client, Reference: ref, PlainHTTP: web == "http", SkipReferrersGC: true, MaxMetadataBytes: maxManifest},
		tags:   &remote.Repository{Client: client, Reference: ref, PlainHTTP: web == "http", TagListPageSize: tagsAtOnce, MaxMetadataBytes: maxTags},
		stall:  cmp.Or(opt.HTTP.Stall, 30*time.Second),
	}
	base := web + "://" + ref.Registry + "/v2/" + ref.Repository
	opt.HTTP.Client = &nethttp.Client{Transport: roundTripper{client, ref}}
	if repo.blobs, err = http.New(base+"/blobs", opt.HTTP); err != nil {
		return nil, err
	}
	opt.HTTP.Header = opt.HTTP.Header.Clone()
	if opt.HTTP.Header == nil {
		opt.HTTP.Header = nethttp.Header{}
	}
	opt.HTTP.Header.Set("Accept", manifestType)
	repo.manifests, err = http.New(base+"/manifests", opt.HTTP)
	return repo, err
}

// Object makes a Repository of the URL of one object, and returns the object's name:
// what is behind the last slash.
func Object(location string, opt Options) (*Repository, string, error) {
	u, err := parse(location)
	if err != nil {
		return nil, "", err
	}
	slash := strings.LastIndexByte(u.Path, '/')
	if slash < 0 || slash == len(u.Path)-1 {
		return nil, "", fmt.Errorf("%s: names a repository, not a file in it", redact.URL(location))
	}
	name := u.Path[slash+1:]
	u.Path, u.RawPath = u.Path[:slash], ""
	r, err := New(u.String(), opt)
	return r, name, err
}

func parse(location string) (*url.URL, error) {
	u, err := url.Parse(location)
	switch {
	case err != nil: // its text may show a password
		return nil, fmt.Errorf("%s: malformed URL", redact.URL(location))
	case u.Scheme != "oci+http" && u.Scheme != "oci+https":
		return nil, fmt.Errorf("%s: not an oci+https or oci+http URL", redact.URL(location))
	case u.User != nil:
		return nil, fmt.Errorf("%s: user and password of a registry are not written in its URL", redact.URL(location))
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%s: a registry takes no ? or #", redact.URL(location))
	}
	return u, nil
}

// String is the repository's URL.
func (r *Repository) String() string { return r.shown }

// Locate is the URL of an object.
func (r *Repository) Locate(name string) string { return r.shown + "/" + name }

// A failure is why a request did not give what was asked for.
type failure struct {
	where string
	why   error
	kind  error // what callers branch on; nil: worth another try
}

func (e *failure) Error() string   { return e.where + ": " + e.why.Error() }
func (e *failure) Unwrap() []error { return []error{e.why, e.kind} }

func (r *Repository) fail(name string, kind error, format string, args ...any) error {
	return &failure{where: r.Locate(name), why: fmt.Errorf(format, args...), kind: kind}
}
