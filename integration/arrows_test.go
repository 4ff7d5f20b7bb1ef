package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// below is what each room may import of ours. Arrows point down only: a room
// that is not named here, or an import that is not listed, fails the test.
var below = map[string][]string{
	"chunker":            {"internal/multisum"},
	"castp":              {"chunker"},
	"feature":            {"chunker"},
	"index":              {"chunker", "feature"},
	"config":             {"chunker", "internal/nearest", "internal/redact"},
	"store":              {"chunker"},
	"farside":            {"castp", "chunker", "index", "store"},
	"store/local":        {"store"},
	"store/http":         {"store", "internal/redact"},
	"store/s3":           {"store", "store/http", "internal/redact"},
	"store/fetch":        {"chunker", "store"},
	"store/diskcache":    {"chunker", "store"},
	"store/limit":        {"store"},
	"store/access":       {"config", "store", "store/fetch", "store/http", "store/limit", "store/open", "internal/redact"},
	"store/open":         {"store", "store/local", "store/http", "store/limit", "store/s3", "store/sftp", "store/ftp", "store/oci", "store/ssh", "store/gs", "internal/redact"},
	"store/sftp":         {"store", "internal/redact", "internal/lastwords"},
	"store/ftp":          {"store", "internal/redact"},
	"store/gs":           {"store", "store/http", "internal/redact"},
	"store/oci":          {"store", "store/http", "internal/redact"},
	"store/ssh":          {"castp", "chunker", "feature", "index", "store", "internal/lastwords"},
	"store/storetest":    {"chunker", "store"},
	"blockcache":         {"chunker", "index", "store"},
	"catar":              {"feature"},
	"catar/inode":        {"catar", "feature"},
	"catar/exclude":      {},
	"catar/walk":         {"catar", "catar/exclude", "catar/inode", "feature"},
	"catar/restore":      {"catar", "catar/inode", "feature"},
	"catar/tree":         {"catar", "feature"},
	"tarball":            {"catar", "catar/inode", "feature"},
	"layers":             {"catar", "catar/exclude", "feature", "tarball"},
	"ocilayout":          {"layers", "tarball"},
	"listing":            {"catar", "chunker", "feature"},
	"prefetch":           {"blockcache", "chunker", "index", "store"},
	"catalog":            {"chunker", "index", "store", "store/diskcache", "store/local", "store/open", "internal/redact"},
	"seed":               {"catar/walk", "chunker", "feature", "index", "internal/extents", "store"},
	"image":              {"chunker", "feature", "index", "internal/extents", "seed", "store"},
	"memo":               {"catar/walk", "chunker", "feature", "image", "index", "store/local"},
	"archive":            {"blockcache", "catar", "catar/tree", "catar/walk", "chunker", "feature", "image", "index", "prefetch", "store", "store/open"},
	"nbd":                {"internal/hush"},
	"server":             {"chunker", "index", "internal/hush", "store"},
	"fusefs":             {"catar", "catar/tree", "feature", "internal/apart", "internal/hush", "internal/mounts"},
	"overlay":            {},
	"treeoverlay":        {"internal/apart", "internal/mounts"},
	"loop":               {"internal/apart", "internal/diskuse"},
	"nbddev":             {"internal/diskuse"},
	"supervise":          {},
	"internal/origin":    {},
	"internal/progress":  {},
	"internal/notify":    {},
	"internal/extents":   {},
	"internal/hush":      {},
	"internal/lastwords": {},
	"internal/multisum":  {},
	"internal/redact":    {},
	"internal/nearest":   {},
	"internal/claim":     {},
	"internal/apart":     {},
	"internal/diskuse":   {},
	"internal/mounts":    {},
	"internal/sector":    {},
	"internal/testtree":  {"catar/exclude", "feature"},
}

// top may import every room.
var top = []string{"cmd/caravel", "integration"}

func TestArrowsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room := strings.TrimPrefix(pkg.ImportPath, "caravel/")
		if slices.ContainsFunc(top, func(dir string) bool { return room == dir || strings.HasPrefix(room, dir+"/") }) {
			continue
		}
		seen++
		allowed, ok := below[room]
		if !ok {
			t.Errorf("room %q is not in the table", room)
		}
		for _, imp := range pkg.Imports {
			if ours, ok := strings.CutPrefix(imp, "caravel/"); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s: the arrow points up or sideways", room, ours)
			}
		}
	}
	if seen != len(below) {
		t.Errorf("%d rooms found, %d are in the table", seen, len(below))
	}
}
