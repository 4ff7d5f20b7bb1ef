//go:build linux

package integration

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/internal/origin"
)

// An informed is what info prints of a few things.
type informed struct {
	Total    int
	Unique   int
	InStore  int   `json:"in-store"`
	InSeed   int   `json:"in-seed"`
	InCache  int   `json:"in-cache"`
	Needed   int   `json:"not-in-seed-nor-cache"`
	Size     int   `json:"size"`
	Unseeded int   `json:"dedup-size-not-in-seed"`
	Packed   int   `json:"dedup-size-not-in-seed-nor-cache-compressed"`
	Local    *int  `json:"in-local"`
	Repeated *int  `json:"repeated-size"`
	Stores   []any `json:"stores"`
}

func infoOf(t *testing.T, args ...string) (got informed) {
	t.Helper()
	if err := json.Unmarshal([]byte(must(t, caravel, append([]string{"info"}, args...)...)), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// twoDisks are two images, the second of which has something changed in its middle and
// zeros at its end, with a store for each.
func twoDisks(t *testing.T) (v1, v2 *disk) {
	t.Helper()
	v1 = newDisk(t, 1_500_000)
	v2 = &disk{dir: t.TempDir(), data: slices.Concat(v1.data[:700_000], []byte("something new"), v1.data[700_000:], make([]byte, 1_000_000))}
	v2.image, v2.index, v2.store = v2.path("disk.img"), v2.path("v2.caibx"), v2.path("default.castr")
	writeFile(t, v2.image, v2.data)
	must(t, caravel, "make", "--no-sync", "--chunk-size=4K", v2.index, v2.image)
	return v1, v2
}

func TestInfo(t *testing.T) {
	v1, v2 := twoDisks(t)
	all := v2.chunks(t)
	near := filepath.Join(t.TempDir(), "near.castr")
	must(t, caravel, "cache", "-c", near, v1.index)
	far := serveDir(t, filepath.Dir(v2.index), origin.Options{})

	if got := infoOf(t, v2.index); got.Total != len(all) || got.InStore != 0 || got.Needed != got.Unique || got.Size != len(v2.data) || got.Local != nil {
		t.Errorf("of the index alone: %+v", got)
	}
	got := infoOf(t, "-s", far.URL()+"/default.castr", "-c", near, "--seed", v1.index, v2.index)
	if got.InStore != got.Unique || got.InSeed == 0 || got.InSeed != got.InCache || got.Needed != got.Unique-got.InSeed || got.Unseeded >= len(v2.data)/2 {
		t.Errorf("with a seed: %+v", got)
	}
	inspected := filepath.Join(t.TempDir(), "chunks.json")
	must(t, caravel, "inspect-chunks", "-s", far.URL()+"/default.castr", v2.index, inspected)
	if got := infoOf(t, "--chunks-info", inspected, "--seed", v1.index, v2.index); got.Packed == 0 || got.Packed > got.Unseeded+1000 {
		t.Errorf("with sizes: %+v", got)
	}
	got = infoOf(t, "--more", v2.index)
	if got.InStore != got.Unique || *got.Local != got.Unique || *got.Repeated == 0 || len(got.Stores) != 1 {
		t.Errorf("more: %+v", got)
	}
	if text := must(t, caravel, "info", "--format=plain", "--more", v2.index); strings.Count(text, "\n") != 13+8+2 {
		t.Errorf("plain:\n%s", text)
	}
}

// TestInfoRefuses has stores that are not there, which are no stores without chunks.
func TestInfoRefuses(t *testing.T) {
	v1 := newDisk(t, 300_000)
	complaint(t, run(t, caravel, "info", "-s", "http://localhost:1/x.castr", "--timeout=300ms", v1.index), "refused")
	complaint(t, run(t, caravel, "info", "-s", "/no/such.castr", v1.index), "no such store")
	complaint(t, run(t, caravel, "inspect-chunks", "-s", "/no/such.castr", v1.index), "no such store")
	text := filepath.Join(t.TempDir(), "text")
	writeFile(t, text, []byte("no JSON"))
	complaint(t, run(t, caravel, "info", "--chunks-info", text, v1.index), "--chunks-info")
}

// TestInfoAsDesync has both print the same.
func TestInfoAsDesync(t *testing.T) {
	desync := desync(t)
	v1, v2 := twoDisks(t)
	near := filepath.Join(t.TempDir(), "near.castr")
	must(t, caravel, "cache", "-c", near, v1.index)
	sizes := filepath.Join(t.TempDir(), "chunks.json")
	must(t, desync, "inspect-chunks", "-s", v2.store, v2.index, sizes)
	for _, args := range [][]string{
		{"inspect-chunks", v2.index},
		{"inspect-chunks", "-s", v1.store, v2.index},
		{"info", v2.index},
		{"info", "-s", v1.store, "-c", near, "--seed", v1.index, v2.index},
		{"info", "-f", "plain", "-s", v1.store, "--seed", v1.index, "--chunks-info", sizes, v2.index},
	} {
		if ours, theirs := must(t, caravel, args...), must(t, desync, args...); ours != theirs {
			t.Errorf("%q: prints\n%s, not\n%s", args, ours, theirs)
		}
	}
}
