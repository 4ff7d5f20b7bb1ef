//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestVerifyIndex compares images with their indexes: casync's, too, and an archive with
// that of its tree.
func TestVerifyIndex(t *testing.T) {
	d := newDisk(t, 700_000, "--no-store")
	must(t, caravel, "verify-index", d.index, d.image)
	need(t, "casync")
	theirs := filepath.Join(t.TempDir(), "theirs.caibx")
	must(t, "casync", "make", theirs, d.image)
	must(t, caravel, "verify-index", theirs, d.image)
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	must(t, caravel, "verify-index", p.index, p.archive)

	other := filepath.Join(t.TempDir(), "other.img")
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(other, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	changed := bytes.Clone(d.data)
	changed[300_000]++
	write(changed)
	r := run(t, caravel, "verify-index", "--json", d.index, other)
	var got struct {
		Chunks, Other int
		First         piece
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatal(err)
	}
	if all := len(d.chunks(t)); r.status != 1 || got.Other != 1 || got.Chunks != all-1 ||
		got.First.Start > 300_000 || got.First.Start+got.First.Size <= 300_000 {
		t.Errorf("status %d, %+v of %d", r.status, got, all)
	}
	complaint(t, run(t, caravel, "verify-index", d.index, other), "other.img: differs from the image in 1 of")
	for _, content := range [][]byte{d.data[:1000], append(changed, 0), nil} {
		write(content)
		complaint(t, run(t, caravel, "verify-index", d.index, other), "bytes, the image has 700000")
	}
	complaint(t, run(t, caravel, "verify-index", p.index, p.source), "is a directory")
	complaint(t, run(t, caravel, "verify-index", d.index, "/no/such/file"), "/no/such/file")
}
