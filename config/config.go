// Package config reads what users say of stores in a file: how each is reached, and
// what lets them in.
//
// The file is desync's, in JSON, and has a few keys more. Options belong to locations,
// which may be patterns:
//
//	{
//	  "store-options": {
//	    "https://example.com/images/*": {"token-file": "/run/token", "error-retry": 5},
//	    "/srv/plain.castr": {"uncompressed": true}
//	  },
//	  "s3-credentials": {"https://s3.example.com": {"access-key": "…", "secret-key": "…"}},
//	  "rate-limit-bps": "10M"
//	}
//
// It is read strictly: a key that there is not is an error that names it, for a typing
// mistake in what protects something would else go unseen. [Config.For] gives the
// [Settings] of one location, the environment's among them; what is to be done with
// them is for others.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// sizeLimit is how long a configuration may be, in bytes.
const sizeLimit = 1 << 20

// None is the name of no file: nothing is read.
const None = "none"

// A Config is a configuration. The zero value is an empty one.
type Config struct {
	File string `json:"-"` // where it was read from; "": nowhere

	Stores map[string]Settings       `json:"store-options,omitempty"`   // by location
	S3     map[string]S3Credentials  `json:"s3-credentials,omitempty"`  // by scheme://host
	OCI    map[string]OCICredentials `json:"oci-credentials,omitempty"` // by location
	Rates                            // of all that the process does
}

// Load reads the file named, or, if that is "", the one of the default places that is
// there: ours, else desync's, else none. None is no file either.
func Load(named string) (Config, error) {
	if named == None {
		return Config{}, nil
	}
	if named != "" {
		return load(named)
	}
	for _, place := range []func() (string, error){Place, desyncPlace} {
		path, err := place()
		if err != nil {
			continue // nobody's home has no configuration
		}
		c, err := load(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	return Config{}, nil
}

// Place is where our configuration is if nobody says it.
func Place() (string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // as the XDG specification wants it
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("config: no place for it: %w", err)
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "caravel", "config.json"), nil
}

// desyncPlace is where desync has it, whatever the system says.
func desyncPlace() (string, error) {
	home := os.Getenv("HOME")
	if runtime.GOOS == "windows" {
		home = os.Getenv("HOMEDRIVE") + os.Getenv("HOMEPATH")
	}
	if home == "" {
		return "", fs.ErrNotExist
	}
	return filepath.Join(home, ".config", "desync", "config.json"), nil
}

func load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	c, err := Read(f)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	c.File = path
	return c, nil
}

// Read reads a configuration.
func Read(r io.Reader) (Config, error) {
	content, err := io.ReadAll(io.LimitReader(r, sizeLimit+1))
	switch {
	case err != nil:
		return Config{}, fmt.Errorf("config: %w", err)
	case len(content) > sizeLimit:
		return Config{}, fmt.Errorf("config: more than %d bytes", sizeLimit)
	case len(bytes.TrimSpace(content)) == 0:
		return Config{}, errors.New("config: is empty; {} says nothing")
	}
	var c Config
	if err := decode(content, &c); err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	return c, nil
}

// WriteTo writes the configuration, secrets and all, as Read and desync read it.
func (c Config) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return 0, fmt.Errorf("config: %w", err)
	}
	return b.WriteTo(w)
}
