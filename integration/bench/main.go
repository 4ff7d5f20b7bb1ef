//go:build linux

// Bench measures caravel beside casync (from the PATH) and desync ($DESYNC) on
// the same image and the same tree in the same run: whole-image work, and lazy
// reading over a web server 20 ms away. It prints medians, ratios and peak
// memory.
//
//	go run ./integration/bench -size 1024 -runs 3
//	go run ./integration/bench -only make,extract
//	go run ./integration/bench -only mounted
//	go run ./integration/bench -only tree-make,tree-extract -tree /usr/share
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if name := os.Getenv(asServer); name != "" {
		fmt.Fprintln(os.Stderr, "bench:", serveDisk(name, os.Args[1], os.Args[2]))
		os.Exit(1)
	}
	size := flag.Int("size", 1024, "MiB of the image")
	runs := flag.Int("runs", 3, "counted runs of each command, after one that does not count")
	only := flag.String("only", "", "names of the cases to run, separated by commas; empty: all")
	dir := flag.String("dir", "", "work in this folder; empty: a temporary one")
	tree := flag.String("tree", goRoot(), "the tree to pack; empty: Go's own")
	flag.Parse()
	if err := bench(*size, *runs, *only, *dir, *tree); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A setting is what the cases work with.
type setting struct {
	dir    string
	runs   int
	mib    int    // of the disk image
	image  string // the disk image
	bytes  int64  // its length
	tree   string // the tree
	packed int64  // the length of its archive
	bin    string // caravel
	casync string // "": not installed
	desync string // "": $DESYNC is not set
}

// A comparison is one case, and what it needs.
type comparison struct {
	name  string
	needs func(*setting) error
	run   func(*setting) error
}

func comparisons() []comparison {
	disk, tree, wan := (*setting).prepareDisk, (*setting).prepareTree, (*setting).prepareWan
	boot := (*setting).prepareBoot
	return []comparison{
		{"make", disk, (*setting).makeEmpty},
		{"remake", disk, (*setting).makePresent},
		{"next", disk, (*setting).makeNext},
		{"extract", disk, (*setting).extract},
		{"http", disk, (*setting).extractHTTP},
		{"mount", disk, (*setting).mounts},
		{"nbd", disk, (*setting).nbd},
		{"tree-make", tree, (*setting).treeMake},
		{"tree-archive", tree, (*setting).treeArchive},
		{"tree-extract", tree, (*setting).treeExtract},
		{"tree-list", tree, (*setting).treeList},
		{"tree-http", tree, (*setting).treeHTTP},
		{"mounted-tree", tree, (*setting).mountedTrees},
		{"mounted-million", (*setting).prepareMillion, (*setting).million},
		{"chunk-server", disk, (*setting).chunkServer},
		{"fetch-http", tree, (*setting).fetchHTTP},
		{"fetch-s3", tree, (*setting).fetchS3},
		{"fetch-ssh", tree, (*setting).fetchSSH},
		{"disk-warm", disk, (*setting).disks},
		{"disk-gonbd", disk, (*setting).goNBD},
		{"disk-sparse", (*setting).prepareSparse, (*setting).sparse},
		{"disk-kernel", (*setting).prepareKernel, (*setting).kernel},
		{"boot", boot, (*setting).boots},
		{"wan-look", wan, (*setting).wanLook},
		{"wan-stream", wan, (*setting).wanStream},
		{"wan-sweep", wan, (*setting).wanSweep},
		{"wan-odd", wan, (*setting).wanOdd},
		{"wan-profile", wan, (*setting).wanProfile},
		{"wan-local", wan, (*setting).wanLocal},
		{"wan-huge", (*setting).prepareHuge, (*setting).wanHuge},
	}
}

func bench(size, runs int, only, dir, tree string) error {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "caravel-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	s := &setting{dir: dir, runs: runs, mib: size, tree: tree, desync: os.Getenv("DESYNC")}
	s.casync, _ = exec.LookPath("casync")
	if err := s.build(); err != nil {
		return err
	}
	for _, c := range comparisons() {
		if !chosen(c.name, only) {
			continue
		}
		if err := c.needs(s); err != nil {
			return fmt.Errorf("preparing %s: %w", c.name, err)
		}
		if err := c.run(s); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// chosen reports whether a case is to run: it, or its group ("wan" of
// "wan-look"), is among the names.
func chosen(name, only string) bool {
	group, _, _ := strings.Cut(name, "-")
	names := strings.Split(only, ",")
	return only == "" || slices.Contains(names, name) || slices.Contains(names, group)
}

// path is a file of the bench's own.
func (s *setting) path(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

func (s *setting) build() error {
	s.bin = s.path("caravel")
	build := exec.Command("go", "build", "-o", s.bin, "caravel/cmd/caravel")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.MkdirAll(s.path("www"), 0o755)
}

// prepareDisk makes the disk image, and cuts it into www, the folder that the
// web server shows.
func (s *setting) prepareDisk() error {
	if s.image != "" {
		return nil
	}
	s.image = s.path("disk.img")
	if _, err := os.Stat(s.image); err != nil {
		if err := diskImage(s.image, s.path("files"), int64(s.mib)<<20); err != nil {
			return err
		}
	}
	st, err := os.Stat(s.image)
	if err != nil {
		return err
	}
	s.bytes = st.Size()
	out, err := exec.Command(s.bin, "make", s.path("www", "disk.caibx"), s.image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	fmt.Printf("image: %d MiB, an ext4 file system two thirds full; %d counted runs, medians\n", s.bytes>>20, s.runs)
	return nil
}
