package main

import (
	"fmt"
	"os"
	"path/filepath"

	"caravel/internal/redact"
)

// exportLocations are the images that arguments name: each, or those in it if it
// is a folder. Two that would have one name are refused before any is opened.
func exportLocations(args []string) ([]string, error) {
	var all []string
	for _, arg := range args {
		if arg == "" {
			return nil, usagef("an INDEX, FILE or DIR says nothing")
		}
		if st, err := os.Stat(arg); err != nil || !st.IsDir() {
			all = append(all, arg)
			continue
		}
		indexes, err := indexesIn(arg)
		if err != nil {
			return nil, err
		}
		all = append(all, indexes...)
	}
	named := make(map[string]string)
	for _, location := range all {
		name := imageName(location)
		other, ok := named[name]
		if ok && other == location {
			return nil, usagef("%s: is named twice", redact.URL(location))
		}
		if ok {
			return nil, usagef("%s and %s: both would be the export %q", redact.URL(other), redact.URL(location), name)
		}
		named[name] = location
	}
	return all, nil
}

// indexesIn are the indexes of disk images in a folder, by their names.
func indexesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if kindByName(e.Name()) == blobIndex && !e.IsDir() {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: there is no *.caibx in it", dir)
	}
	return all, nil
}
