package config

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"caravel/internal/redact"
)

// For is what counts for a store at a location: the options whose key is it or, as a
// pattern of path.Match, matches it, and the credentials that the environment or, where
// that has none, the configuration has for it. A slash at the end means nothing. It is
// an error if two keys match.
func (c Config) For(location string) (Settings, error) {
	s, _, err := c.settings(location)
	return c.complete(s, location, err)
}

// ForFile is For for a file: its own options, else those of the folder that it lies in.
func (c Config) ForFile(location string) (Settings, error) {
	s, found, err := c.settings(location)
	if err == nil && !found {
		s, _, err = c.settings(folderOf(location))
	}
	return c.complete(s, location, err)
}

// settings are the options for a location, and whether there are any.
func (c Config) settings(location string) (s Settings, found bool, err error) {
	key, err := matching(c.Stores, location)
	if err != nil {
		return Settings{}, false, fmt.Errorf("config: store-options: %w", err)
	}
	s, found = c.Stores[key]
	return s, found, nil
}

// complete adds to the options of a location what lets somebody in.
func (c Config) complete(s Settings, location string, err error) (Settings, error) {
	if err != nil {
		return Settings{}, err
	}
	if s.S3, err = c.s3(location); err != nil {
		return Settings{}, err
	}
	if s.OCI, err = c.oci(location); err != nil {
		return Settings{}, err
	}
	if key := os.Getenv("DESYNC_ENCRYPTION_KEY"); s.Encryption && s.EncryptionKey == "" && key != "" {
		s.EncryptionKey = key
		if err := s.checkEncryption(); err != nil {
			return Settings{}, fmt.Errorf("DESYNC_ENCRYPTION_KEY: %w", err)
		}
	}
	return s, nil
}

// s3 are the credentials for the server of a location: the environment's keys before
// the configuration's.
func (c Config) s3(location string) (*S3Credentials, error) {
	server, isS3 := strings.CutPrefix(location, "s3+")
	if !isS3 {
		return nil, nil
	}
	scheme, rest, _ := strings.Cut(server, "://")
	host, _, _ := strings.Cut(rest, "/")
	key, err := matching(c.S3, scheme+"://"+host)
	if err != nil {
		return nil, fmt.Errorf("config: s3-credentials: %w", err)
	}
	found, ok := c.S3[key]
	env := S3Credentials{AccessKey: os.Getenv("S3_ACCESS_KEY"), SecretKey: os.Getenv("S3_SECRET_KEY"), SessionToken: os.Getenv("S3_SESSION_TOKEN")}
	if env.AccessKey == "" && env.SecretKey == "" {
		env = S3Credentials{AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN")}
	}
	if env.AccessKey != "" || env.SecretKey != "" {
		env.Region = found.Region
		found, ok = env, true
	}
	if region := os.Getenv("S3_REGION"); region != "" {
		found.Region, ok = region, true
	}
	if !ok {
		return nil, nil
	}
	return &found, nil
}

// oci are the credentials for a repository.
func (c Config) oci(location string) (*OCICredentials, error) {
	if !strings.HasPrefix(location, "oci+") {
		return nil, nil
	}
	if user := os.Getenv("DESYNC_OCI_USERNAME"); user != "" {
		return &OCICredentials{user, os.Getenv("DESYNC_OCI_PASSWORD")}, nil
	}
	key, err := matching(c.OCI, location)
	if err != nil {
		return nil, fmt.Errorf("config: oci-credentials: %w", err)
	}
	if found, ok := c.OCI[key]; ok {
		return &found, nil
	}
	return nil, nil
}

// matching is the one key that matches a location, "" if there is none.
func matching[T any](keys map[string]T, location string) (string, error) {
	match := ""
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !matches(key, location) {
			continue
		}
		if match != "" {
			return "", fmt.Errorf("%q and %q both match %s", redact.URL(match), redact.URL(key), redact.URL(location))
		}
		match = key
	}
	return match, nil
}

// matches reports whether a key is for a location.
func matches(key, location string) bool {
	if !strings.Contains(location, "://") { // a path, wherever it is seen from
		return !strings.Contains(key, "://") && same(absolute(key), absolute(location))
	}
	if same(key, location) {
		return true
	}
	bare, _, query := strings.Cut(location, "?")
	return query && same(key, bare)
}

func same(key, location string) bool {
	key, location = strings.TrimRight(key, "/"), strings.TrimRight(location, "/")
	if key == location {
		return true // also one that is no good as a pattern, such as an IPv6 address
	}
	ok, err := path.Match(key, location)
	return ok && err == nil
}

// absolute is a path that begins at the root, with slashes.
func absolute(p string) string {
	abs, err := filepath.Abs(p)
	if err != nil {
		return p
	}
	return filepath.ToSlash(abs)
}

// folderOf is where a file lies; of a URL the query goes with the file.
func folderOf(location string) string {
	if !strings.Contains(location, "://") {
		return filepath.Dir(location)
	}
	location, _, _ = strings.Cut(location, "?")
	slash := strings.LastIndexByte(location, '/')
	if slash < strings.Index(location, "://")+3 { // only a host
		return location
	}
	return location[:slash]
}
