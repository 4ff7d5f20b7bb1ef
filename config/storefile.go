package config

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// A StoreFile names the stores of a process that runs on while they are exchanged, as
// desync has it: {"stores": ["/srv/a", "http://host/b|http://mirror/b"], "cache": "/srv/c"}.
type StoreFile struct {
	Stores []string `json:"stores"` // in the order in which they are asked, at least one
	Cache  string   `json:"cache"`  // "": none
}

// LoadStoreFile reads one.
func LoadStoreFile(path string) (StoreFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return StoreFile{}, fmt.Errorf("store file: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, sizeLimit+1))
	if err == nil && len(content) > sizeLimit {
		err = fmt.Errorf("more than %d bytes", sizeLimit)
	}
	var s StoreFile
	if err == nil {
		err = decode(content, &s)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return StoreFile{}, fmt.Errorf("%s: store file: %w", path, err)
	}
	return s, nil
}

func (s StoreFile) check() error {
	if len(s.Stores) == 0 {
		return errors.New("names no stores")
	}
	for _, store := range s.Stores {
		if store == "" {
			return errors.New("stores: one is empty")
		}
	}
	return nil
}
