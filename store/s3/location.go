package s3

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"caravel/internal/redact"
)

// A location is where a bucket is, and where in it.
type location struct {
	scheme string   // as it was typed
	server *url.URL // scheme and host only; nil: Amazon, in the bucket's region
	bucket string
	prefix string // without a slash at its ends
	region string // "": not said
	lookup minio.BucketLookupType
}

// parse takes a URL apart. Its errors show nothing that may be secret.
func parse(text string) (location, error) {
	l, err := parseURL(text)
	if err != nil {
		return location{}, fmt.Errorf("s3: %s: %w", redact.URL(text), err)
	}
	return l, nil
}

func parseURL(text string) (location, error) {
	u, err := url.Parse(text)
	if escape := url.EscapeError(""); errors.As(err, &escape) {
		return location{}, errors.New("a % in a URL is written %25")
	}
	if err != nil { // its text may show a secret
		return location{}, errors.New("malformed URL")
	}
	l := location{scheme: u.Scheme}
	switch {
	case u.User != nil:
		return l, errors.New("keys do not belong into a URL; they are taken from $S3_ACCESS_KEY and $S3_SECRET_KEY, or a profile")
	case u.Fragment != "":
		return l, errors.New("a # in a URL is written %23")
	case u.Host == "":
		return l, errors.New("names no bucket: write s3://BUCKET, s3+http://HOST/BUCKET or s3+https://HOST/BUCKET")
	}
	path := strings.Trim(u.Path, "/")
	switch u.Scheme {
	case "s3":
		path = strings.TrimRight(u.Host+"/"+path, "/")
		if l.server, err = endpoint(); err != nil {
			return l, err
		}
	case "s3+http", "s3+https":
		l.server = &url.URL{Scheme: strings.TrimPrefix(u.Scheme, "s3+"), Host: u.Host}
	default:
		return l, fmt.Errorf("%s:// is not S3", u.Scheme)
	}
	l.bucket, l.prefix, _ = strings.Cut(path, "/")
	l.prefix = strings.Trim(l.prefix, "/")
	if err := l.check(); err != nil {
		return l, err
	}
	return l, l.setQuery(u.RawQuery)
}

// endpoint is the server that the environment names instead of Amazon's; nil if
// none.
func endpoint() (*url.URL, error) {
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} {
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("$%s is not an http or https URL", name)
		}
		return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
	}
	return nil, nil
}

// check refuses what no server would take.
func (l *location) check() error {
	if l.bucket == "" {
		return errors.New("names no bucket")
	}
	if err := s3utils.CheckValidBucketName(l.bucket); err != nil {
		return fmt.Errorf("no bucket is named %q: %w", l.bucket, err)
	}
	for part := range strings.SplitSeq(l.prefix, "/") {
		if part == "." || part == ".." {
			return fmt.Errorf("%q cannot be a part of a prefix", part)
		}
	}
	return nil
}

// setQuery takes what stands behind the path.
func (l *location) setQuery(text string) error {
	query, err := url.ParseQuery(text)
	if err != nil {
		return errors.New("malformed query")
	}
	for key := range query {
		if !slices.Contains([]string{"lookup", "region"}, key) {
			return errors.New("behind the ? may only stand lookup= and region=")
		}
	}
	l.region = query.Get("region")
	switch query.Get("lookup") {
	case "", "auto":
		l.lookup = minio.BucketLookupAuto
	case "dns":
		l.lookup = minio.BucketLookupDNS
	case "path":
		l.lookup = minio.BucketLookupPath
	default:
		return fmt.Errorf("lookup=%q: want auto, dns or path", query.Get("lookup"))
	}
	return nil
}

// cutName takes the last part off the prefix: the name of an object.
func (l *location) cutName() (string, error) {
	if l.prefix == "" {
		return "", fmt.Errorf("s3: %s: names a bucket, not an object in it", l.shown())
	}
	slash := strings.LastIndexByte(l.prefix, '/')
	name := l.prefix[slash+1:]
	l.prefix = strings.TrimRight(l.prefix[:max(slash, 0)], "/")
	return name, nil
}

// shown is the location for people, without a query.
func (l *location) shown() string {
	u := url.URL{Scheme: l.scheme, Path: "/" + l.key("")}
	if l.scheme == "s3" {
		u.Host = l.bucket
	} else {
		u.Host, u.Path = l.server.Host, "/"+l.bucket+u.Path
	}
	return strings.TrimRight(u.String(), "/")
}

// key is the key of an object.
func (l *location) key(name string) string {
	if l.prefix == "" {
		return name
	}
	return l.prefix + "/" + name
}

// regionOr is the region to begin with.
func (l *location) regionOr(c Credentials) string {
	known := ""
	if l.server != nil {
		known = s3utils.GetRegionFromURL(*l.server)
	}
	const usual = "us-east-1" // what servers go by that have no regions
	return cmp.Or(l.region, known, os.Getenv("S3_REGION"), c.Region,
		os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), c.profileRegion(), usual)
}

// serverIn is the server to ask in a region.
func (l *location) serverIn(region string) *url.URL {
	switch {
	case l.server != nil && !s3utils.IsAmazonEndpoint(*l.server):
		return l.server
	case l.server != nil && s3utils.GetRegionFromURL(*l.server) == region:
		return l.server
	}
	u := &url.URL{Scheme: "https", Host: "s3." + region + ".amazonaws.com"}
	if strings.HasPrefix(region, "cn-") {
		u.Host += ".cn"
	}
	if l.server != nil {
		u.Scheme = l.server.Scheme
	}
	return u
}

// folder is what a web client sees of the location on a server.
func (l *location) folder(server *url.URL) *url.URL {
	dns := l.lookup == minio.BucketLookupDNS ||
		l.lookup == minio.BucketLookupAuto && s3utils.IsVirtualHostSupported(*server, l.bucket)
	u := *server
	u.Path = "/" + l.prefix
	if dns {
		u.Host = l.bucket + "." + u.Host
	} else {
		u.Path = "/" + l.bucket + u.Path
	}
	u.RawPath = s3utils.EncodePath(u.Path)
	return &u
}
