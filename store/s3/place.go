package s3

import (
	"errors"
	"fmt"
	nethttp "net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"caravel/store/http"
)

// A place is where a bucket is asked for: a server and a region, which signatures
// name.
type place struct {
	region string
	web    *http.Web   // reads
	client *minio.Core // does the rest
}

// putTries is how often minio-go sends what is written, with rests of up to a
// second.
const putTries = 5

// at makes the place in a region. Its name may come from a server, and becomes a
// part of a host's.
func (b *Bucket) at(region string) (*place, error) {
	if strings.ContainsFunc(region, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }) {
		return nil, fmt.Errorf("s3: %s: no region is named %q", b.shown(), region)
	}
	server := b.serverIn(region)
	conns := b.opt.HTTP.Client.Transport
	if conns == nil {
		conns = nethttp.DefaultTransport
	}
	web := b.opt.HTTP
	web.Header = nil // of a web server's
	folder := b.folder(server)
	web.Client = &nethttp.Client{Transport: &signing{conns: conns, host: folder.Host, region: region, who: b.who}}
	p := &place{region: region}
	var err error
	if p.web, err = http.New(folder.String(), web); err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	p.client, err = minio.NewCore(server.Host, &minio.Options{
		Creds:        b.who,
		Secure:       server.Scheme == "https",
		Transport:    &patient{conns, b.opt.HTTP.Stall},
		Region:       region,
		BucketLookup: b.lookup,
		MaxRetries:   putTries,
	})
	if err != nil {
		return nil, fmt.Errorf("s3: %s: %w", b.shown(), err)
	}
	return p, nil
}

// ask does something that can be done again, and does so once if the server said
// what was wrong with the place or the keys, and that can be helped.
func (b *Bucket) ask(do func(p *place) error) error {
	p := b.place.Load()
	before, _ := b.keys()
	err := do(p)
	var no *answer
	if err == nil || !errors.As(err, &no) {
		return err
	}
	switch {
	case no.region != "" && no.region != p.region:
		next, errRegion := b.at(no.region)
		if errRegion != nil {
			return err
		}
		b.place.Store(next)
		return do(next)
	case no.expired():
		b.who.Expire()
		if now, err := b.keys(); err == nil && now != before {
			return do(p)
		}
	}
	return err
}

// keys are those that requests are signed with now.
func (b *Bucket) keys() (credentials.Value, error) { return b.who.GetWithContext(nil) }
