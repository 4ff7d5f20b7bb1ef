package seed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"caravel/index"
)

// The endings of indexes, and what the data beside one is called: the same without the
// ending, or with one of these in its place.
var beside = map[string][]string{
	".caibx": {"", ".img"},
	".caidx": {"", ".catar"},
}

// AddNamed adds what a user named: something for Add, an index with its data beside it
// (disk for disk.caibx, or disk.img; a directory or .catar for a .caidx), or both with a colon
// between them, as desync has it.
func (s *Set) AddNamed(name string) error {
	x, data := name, ""
	if _, err := os.Stat(name); err != nil {
		for ending := range beside {
			if at := strings.Index(name, ending+":"); at > 0 {
				x, data = name[:at+len(ending)], name[at+len(ending)+1:]
			}
		}
	}
	others, ok := beside[filepath.Ext(x)]
	if !ok || isDir(x) {
		return s.Add(name)
	}
	if data == "" {
		bare := strings.TrimSuffix(x, filepath.Ext(x))
		for _, other := range others {
			if _, err := os.Stat(bare + other); err == nil {
				data = bare + other
				break
			}
		}
	}
	if data == "" {
		return fmt.Errorf("seed: %s: its data is not beside it; name that, too, as in %s:DATA", x, x)
	}
	return s.addPair(x, data)
}

// addPair adds data and its index.
func (s *Set) addPair(name, data string) error {
	if isDir(data) { // where its files are in the archive has to be found out all the same
		return s.Add(data)
	}
	x, err := readIndex(name)
	if err != nil {
		return err
	}
	if s.opt.Reread {
		return s.Add(data)
	}
	return s.AddIndexed(data, x)
}

func readIndex(name string) (*index.Index, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	x, err := index.Read(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return x, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// AddAll adds each .caibx below a directory that has its data beside it, but the index own of
// the image itself, if that is a file. What cannot be used is no error.
func (s *Set) AddAll(dir, own string) error {
	self, _ := os.Stat(own) // nil: it is not there
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case path == dir && err != nil:
			return fmt.Errorf("seed: %w", err)
		case err != nil || d.IsDir() || filepath.Ext(path) != ".caibx":
			return nil
		}
		if st, err := os.Stat(path); err != nil || self != nil && os.SameFile(self, st) {
			return nil
		}
		data := strings.TrimSuffix(path, ".caibx")
		if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := s.addPair(path, data); err != nil {
			s.opt.Log.Warn("seed cannot be used", "seed", path, "err", err)
		}
		return nil
	})
}
