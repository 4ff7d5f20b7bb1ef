package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"caravel/internal/redact"
)

// Settings say how one location is reached. The zero value of a field says nothing.
type Settings struct {
	N          int      `json:"n,omitempty"`                         // requests at a time; -1: as many as the link carries
	Timeout    Duration `json:"timeout,omitempty"`                   // of one request; negative: none
	ErrorRetry *int     `json:"error-retry,omitempty"`               // how often one thing is asked for; 0 is as good as 1
	RetryBase  Duration `json:"error-retry-base-interval,omitempty"` // before the second try

	CACert        string `json:"ca-cert,omitempty"`     // PEM file of those whose word counts
	ClientCert    string `json:"client-cert,omitempty"` // PEM file; goes with ClientKey
	ClientKey     string `json:"client-key,omitempty"`
	TrustInsecure bool   `json:"trust-insecure,omitempty"` // whatever certificate a server has
	HTTPAuth      string `json:"http-auth,omitempty"`      // the Authorization header
	HTTPCookie    string `json:"http-cookie,omitempty"`    // the Cookie header

	SkipVerify   bool `json:"skip-verify,omitempty"`
	Uncompressed bool `json:"uncompressed,omitempty"`

	Encryption          bool   `json:"encryption,omitempty"`
	EncryptionKey       string `json:"encryption-key,omitempty"`       // 64 hex digits
	EncryptionAlgorithm string `json:"encryption-algorithm,omitempty"` // "": xchacha20-poly1305

	// What desync has not.

	Headers      map[string]string `json:"headers,omitempty"`
	TokenFile    string            `json:"token-file,omitempty"`    // of a bearer token
	Stall        Duration          `json:"stall-timeout,omitempty"` // how long a server may be silent
	HostRequests int               `json:"host-requests,omitempty"` // at a time, to one host, whatever they are for
	Rates

	S3  *S3Credentials  `json:"-"` // of the location's host; nil: none
	OCI *OCICredentials `json:"-"` // of the location; nil: none
}

// Rates are bytes a second; 0: as many as there can be.
type Rates struct {
	Each Bytes `json:"rate-limit-bps,omitempty"` // in either direction
	Up   Bytes `json:"rate-limit-up-bps,omitempty"`
	Down Bytes `json:"rate-limit-down-bps,omitempty"`
}

// S3Credentials let into an S3 server: keys, or a file that has them.
type S3Credentials struct {
	AccessKey    string `json:"access-key,omitempty"`
	SecretKey    string `json:"secret-key,omitempty"`
	SessionToken string `json:"session-token,omitempty"`
	File         string `json:"aws-credentials-file,omitempty"`
	Profile      string `json:"aws-profile,omitempty"`
	Region       string `json:"aws-region,omitempty"`
}

// OCICredentials let into a registry.
type OCICredentials struct {
	Username string `json:"username,omitempty"`
	Secret   string `json:"secret,omitempty"`
}

// Over is s where it says something, and below elsewhere.
func (s Settings) Over(below Settings) Settings {
	set(&below.N, s.N)
	set(&below.Timeout, s.Timeout)
	set(&below.ErrorRetry, s.ErrorRetry)
	set(&below.RetryBase, s.RetryBase)
	set(&below.CACert, s.CACert)
	if s.ClientCert != "" { // checked to come with its key
		below.ClientCert, below.ClientKey = s.ClientCert, s.ClientKey
	}
	if s.HTTPAuth != "" || s.TokenFile != "" { // either is the Authorization header
		below.HTTPAuth, below.TokenFile = s.HTTPAuth, s.TokenFile
	}
	set(&below.HTTPCookie, s.HTTPCookie)
	below.TrustInsecure = below.TrustInsecure || s.TrustInsecure
	below.SkipVerify = below.SkipVerify || s.SkipVerify
	below.Uncompressed = below.Uncompressed || s.Uncompressed
	if s.Encryption || s.EncryptionKey != "" || s.EncryptionAlgorithm != "" {
		below.Encryption, below.EncryptionKey, below.EncryptionAlgorithm = s.Encryption, s.EncryptionKey, s.EncryptionAlgorithm
	}
	if len(s.Headers) > 0 {
		all := maps.Clone(below.Headers)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, s.Headers)
		below.Headers = all
	}
	set(&below.Stall, s.Stall)
	set(&below.HostRequests, s.HostRequests)
	set(&below.Each, s.Each)
	set(&below.Up, s.Up)
	set(&below.Down, s.Down)
	set(&below.S3, s.S3)
	set(&below.OCI, s.OCI)
	return below
}

func set[T comparable](to *T, value T) {
	var nothing T
	if value != nothing {
		*to = value
	}
}

// Check finds what cannot be, or not together.
func (s Settings) Check() error {
	switch {
	case s.N < -1:
		return errors.New("n: want a number of requests, or -1")
	case s.ErrorRetry != nil && *s.ErrorRetry < 0:
		return errors.New("error-retry: want a number of tries")
	case s.RetryBase < 0:
		return errors.New("error-retry-base-interval: is negative")
	case s.Stall < 0:
		return errors.New("stall-timeout: is negative")
	case s.HostRequests < 0:
		return errors.New("host-requests: is negative")
	case (s.ClientCert == "") != (s.ClientKey == ""):
		return errors.New("client-cert and client-key go together")
	case s.HTTPAuth != "" && s.TokenFile != "":
		return errors.New("say either http-auth or token-file")
	}
	for _, field := range []struct{ key, value string }{{"http-auth", s.HTTPAuth}, {"http-cookie", s.HTTPCookie}} {
		if !httpguts.ValidHeaderFieldValue(field.value) {
			return fmt.Errorf("%s: no header can hold that", field.key)
		}
	}
	if err := s.checkHeaders(); err != nil {
		return err
	}
	return s.checkEncryption()
}

// checkHeaders shows no value: it may be a secret.
func (s Settings) checkHeaders() error {
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return fmt.Errorf("headers: %q is no name of a header", name)
		case !httpguts.ValidHeaderFieldValue(s.Headers[name]):
			return fmt.Errorf("headers: %s: no header can hold its value", name)
		case strings.EqualFold(name, "Authorization") && (s.HTTPAuth != "" || s.TokenFile != ""):
			return errors.New("headers: Authorization is said twice, with http-auth or token-file")
		case strings.EqualFold(name, "Cookie") && s.HTTPCookie != "":
			return errors.New("headers: Cookie is said twice, with http-cookie")
		}
		for _, ours := range []string{"Host", "Range", "Accept-Encoding", "Content-Length", "Transfer-Encoding", "If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since"} {
			if strings.EqualFold(name, ours) {
				return fmt.Errorf("headers: %s is not for users to set", ours)
			}
		}
	}
	return nil
}

// The algorithms that chunks can be encrypted with.
var algorithms = []string{"xchacha20-poly1305", "aes-256-gcm"}

func (s Settings) checkEncryption() error {
	key, err := hex.DecodeString(s.EncryptionKey)
	switch {
	case s.EncryptionKey != "" && !s.Encryption:
		return errors.New(`encryption-key: is for nothing without "encryption": true`)
	case s.EncryptionKey != "" && (err != nil || len(key) != 32):
		return errors.New("encryption-key: want 64 hex digits")
	case s.EncryptionAlgorithm != "" && !slices.Contains(algorithms, s.EncryptionAlgorithm):
		return fmt.Errorf("encryption-algorithm: %q is none; want %s", s.EncryptionAlgorithm, strings.Join(algorithms, " or "))
	}
	return nil
}

// check is Check of all that a configuration has.
func (c Config) check() error {
	for _, location := range slices.Sorted(maps.Keys(c.Stores)) {
		if err := c.Stores[location].Check(); err != nil {
			return fmt.Errorf("store-options: %q: %w", redact.URL(location), err)
		}
	}
	for key, patterns := range map[string][]string{
		"store-options":   slices.Collect(maps.Keys(c.Stores)),
		"s3-credentials":  slices.Collect(maps.Keys(c.S3)),
		"oci-credentials": slices.Collect(maps.Keys(c.OCI)),
	} {
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil {
				return fmt.Errorf("%s: %q: is no pattern: a [ is written \\[ in one", key, redact.URL(p))
			}
		}
	}
	return nil
}

// A Duration is a time, in JSON a number of nanoseconds or a string like "90s".
type Duration time.Duration

// Bytes are a number of bytes, in JSON a number or a string like "10M".
type Bytes int64
