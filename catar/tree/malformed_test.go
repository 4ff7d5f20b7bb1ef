package tree_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/catar/tree"
)

// valid are the archives among the malformed ones that are as they should be.
var valid = map[string]bool{
	"good": true, "empty-dir": true, "fifo-directly-followed": true, "xattr-ok": true, "depth-62": true,
	"depth-63": true, "acl-ok": true, "default-ok": true,
}

// Every malformed archive is refused by a walk, with a reason and a place.
func TestMalformed(t *testing.T) {
	files, err := filepath.Glob("testdata/malformed/*.catar")
	if err != nil || len(files) < 70 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".catar")
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tr, err := tree.Open(t.Context(), memory(b), int64(len(b)), tree.Options{})
			if err == nil {
				_, err = everything(t.Context(), tr)
			}
			switch {
			case valid[name] && err != nil:
				t.Errorf("refused: %v", err)
			case !valid[name] && err == nil:
				t.Error("accepted")
			case err != nil && !strings.Contains(err.Error(), "offset "):
				t.Errorf("no offset in %q", err)
			}
			if testing.Verbose() && err != nil {
				t.Log(err)
			}
		})
	}
}
