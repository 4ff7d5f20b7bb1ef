package s3

import (
	"fmt"
	nethttp "net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"

	"caravel/store/http"
)

// A signing signs requests without a body, and makes Go's errors of the answers
// that are S3's.
type signing struct {
	conns  nethttp.RoundTripper
	host   string // whom signatures are for
	region string
	who    *credentials.Credentials
}

// RoundTrip implements http.RoundTripper.
func (s *signing) RoundTrip(req *nethttp.Request) (*nethttp.Response, error) {
	who, err := s.who.GetWithContext(&credentials.CredContext{
		Client:  &nethttp.Client{Transport: s.conns},
		Context: req.Context(),
	})
	if err != nil {
		return nil, fmt.Errorf("no keys: %w", err)
	}
	resp, err := s.conns.RoundTrip(s.sign(req, who))
	if err != nil {
		return nil, err
	}
	return resp, refused(resp, s.region)
}

// Others sign, too: Amazon's servers send to one another.
func (s *signing) Others() nethttp.RoundTripper {
	others := *s
	others.conns = http.Others(s.conns)
	return &others
}

// sign is the request with a signature, unless we are nobody, or were sent to
// another server, which has no need to know who we are.
func (s *signing) sign(req *nethttp.Request, who credentials.Value) *nethttp.Request {
	signed := req.WithContext(req.Context())
	u := *req.URL
	u.RawPath = s3utils.EncodePath(u.Path) // signatures are made of it as Amazon writes it
	signed.URL = &u
	if who.AccessKeyID == "" || !s.known(req.URL) {
		return signed
	}
	signed.Header = req.Header.Clone()                                                   // which all others share
	const ofNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256
	signed.Header.Set("X-Amz-Content-Sha256", ofNothing)
	return signer.SignV4(*signed, who.AccessKeyID, who.SecretAccessKey, who.SessionToken, s.region)
}

// known reports whether signatures are for a server: Amazon's send to one another.
func (s *signing) known(to *url.URL) bool {
	const amazon = ".amazonaws.com"
	return to.Host == s.host || strings.HasSuffix(s.host, amazon) && strings.HasSuffix(to.Host, amazon) && to.Scheme == "https"
}
