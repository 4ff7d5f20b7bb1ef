//go:build linux

// Bench measures caravel beside casync (from the PATH) and desync ($DESYNC) on
// the same image in the same run: whole-image work, and lazy reading over a web
// server 20 ms away. It prints medians, ratios and peak memory.
//
//	go run ./integration/bench -size 1024 -runs 3
//	go run ./integration/bench -only make,extract
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	size := flag.Int("size", 1024, "MiB of the image")
	runs := flag.Int("runs", 3, "counted runs of each command, after one that does not count")
	only := flag.String("only", "", "names of the cases to run, separated by commas; empty: all")
	dir := flag.String("dir", "", "work in this folder; empty: a temporary one")
	flag.Parse()
	if err := bench(*size, *runs, *only, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A setting is what the cases work with.
type setting struct {
	dir    string
	runs   int
	image  string // the disk image
	bytes  int64  // its length
	bin    string // caravel
	casync string // "": not installed
	desync string // "": $DESYNC is not set
}

func bench(size, runs int, only, dir string) error {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "caravel-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	s := &setting{dir: dir, runs: runs, desync: os.Getenv("DESYNC")}
	s.casync, _ = exec.LookPath("casync")
	if err := s.prepare(size); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		run  func(*setting) error
	}{
		{"make", (*setting).makeEmpty},
		{"remake", (*setting).makePresent},
		{"extract", (*setting).extract},
		{"http", (*setting).extractHTTP},
		{"mount", (*setting).mounts},
		{"nbd", (*setting).nbd},
	} {
		if only != "" && !strings.Contains(","+only+",", ","+c.name+",") {
			continue
		}
		if err := c.run(s); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// path is a file of the bench's own.
func (s *setting) path(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

// prepare builds caravel, makes the image, and cuts it into www, the folder
// that the web server shows.
func (s *setting) prepare(mib int) error {
	s.bin = s.path("caravel")
	build := exec.Command("go", "build", "-o", s.bin, "caravel/cmd/caravel")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	s.image = s.path("disk.img")
	if _, err := os.Stat(s.image); err != nil {
		if err := diskImage(s.image, s.path("files"), int64(mib)<<20); err != nil {
			return err
		}
	}
	st, err := os.Stat(s.image)
	if err != nil {
		return err
	}
	s.bytes = st.Size()
	if err := os.MkdirAll(s.path("www"), 0o755); err != nil {
		return err
	}
	out, err := exec.Command(s.bin, "make", s.path("www", "disk.caibx"), s.image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	fmt.Printf("image: %d MiB, an ext4 file system two thirds full; %d counted runs, medians\n", s.bytes>>20, s.runs)
	return nil
}
