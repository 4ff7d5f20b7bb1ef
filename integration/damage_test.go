//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCorruptChunk damages one chunk of a store: whoever needs it is told which
// one, make can repair it, and everybody else reads on.
func TestCorruptChunk(t *testing.T) {
	d := newDisk(t, 1<<20)
	bad := d.chunks(t)[100]
	file := bad.file(d.store)
	good := read(t, file)
	spoil(t, file)
	where := fmt.Sprintf("image: bytes %d to %d: ", bad.Start, bad.Start+bad.Size)
	out := filepath.Join(t.TempDir(), "out")
	complaint(t, run(t, caravel, "extract", d.index, out), where, bad.ID, file)
	absent(t, out)
	r := run(t, caravel, "cat", d.index)
	complaint(t, r, where, bad.ID, file)
	if r.stdout != string(d.data[:bad.Start]) {
		t.Errorf("%d bytes before the bad ones, want %d", len(r.stdout), bad.Start)
	}
	// What does not need it works.
	if got := must(t, caravel, "cat", "--offset=0", fmt.Sprintf("--length=%d", bad.Start), d.index); got != string(d.data[:bad.Start]) {
		t.Errorf("other bytes")
	}

	m, mountedFile := mounted(t, d.index, filepath.Join(t.TempDir(), "mnt"))
	f, err := os.Open(mountedFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const page = 4096
	first, last := bad.Start&^(page-1), (bad.Start+bad.Size+page-1)&^(page-1)
	buf := make([]byte, page)
	unreadable := 0
	for off := int64(0); off < int64(len(d.data)); off += page {
		n, err := f.ReadAt(buf, off)
		switch {
		case off < first || off >= last:
			if n != page || !bytes.Equal(buf, d.data[off:off+page]) {
				t.Fatalf("page at %d: %d bytes, %v", off, n, err)
			}
		case !isEIO(err):
			t.Errorf("page at %d in the bad chunk: %d bytes, %v, want EIO", off, n, err)
		default:
			unreadable++
		}
	}
	if unreadable == 0 {
		t.Error("nothing was unreadable")
	}
	t.Logf("mount: %d pages unreadable of %d; its log:\n%s", unreadable, len(d.data)/page, m.stderr)
	if n := strings.Count(m.stderr.String(), "\n"); n != 1 || !strings.Contains(m.stderr.String(), bad.ID) {
		t.Errorf("%d lines in the log, want one with the chunk's ID", n)
	}
	replace(t, file, good)
	if _, err := f.ReadAt(buf, first); err != nil || !bytes.Equal(buf, d.data[first:first+page]) {
		t.Errorf("after the repair: %v", err)
	}
	holds(t, mountedFile, d.data)
	if status := m.stop(syscall.SIGINT); status != 0 {
		t.Errorf("status %d: %s", status, m.stderr)
	}
}

func isEIO(err error) bool { return err != nil && strings.Contains(err.Error(), syscall.EIO.Error()) }

// TestMakeRepairs runs make onto a store with damaged chunks: an empty one is
// seen by its size, another one by reading it.
func TestMakeRepairs(t *testing.T) {
	d := newDisk(t, 1<<20)
	all := d.chunks(t)
	empty, damaged := all[10].file(d.store), all[20].file(d.store)
	whole := map[string][]byte{empty: read(t, empty), damaged: read(t, damaged)}
	replace(t, empty, nil)
	spoil(t, damaged)
	if r := run(t, caravel, "digest", d.index); r.status != 1 {
		t.Errorf("status %d", r.status)
	}
	again := []string{"make", "--no-sync", "--json", "--chunk-size=4K", "--store=" + d.store, d.path("again.caibx"), d.image}
	if got := must(t, caravel, again...); !strings.Contains(got, `"stored":1,`) {
		t.Errorf("an empty chunk: %s", got)
	}
	holds(t, empty, whole[empty])
	if got := must(t, caravel, append(again, "--check-existing")...); !strings.Contains(got, `"stored":1,`) {
		t.Errorf("a damaged chunk: %s", got)
	}
	holds(t, damaged, whole[damaged])
	clean(t, d.dir, "disk.img", "disk.caibx", "again.caibx")
	must(t, caravel, "digest", d.index)
}

// TestMissingChunk takes a chunk away.
func TestMissingChunk(t *testing.T) {
	d := newDisk(t, 1<<20)
	gone := d.chunks(t)[50]
	if err := os.Remove(gone.file(d.store)); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	complaint(t, run(t, caravel, "extract", d.index, out), fmt.Sprintf("bytes %d to %d: ", gone.Start, gone.Start+gone.Size), gone.ID, d.store)
	absent(t, out)
}

// together runs several commands at once.
func together(t *testing.T, commands ...[]string) []result {
	t.Helper()
	daemons := make([]*daemon, len(commands))
	for i, args := range commands {
		daemons[i] = start(t, caravel, args...)
	}
	results := make([]result, len(commands))
	for i, d := range daemons {
		results[i] = result{status: d.wait(), stderr: d.stderr.String()}
	}
	return results
}

// TestMakesAtOnce makes the same and another image into one store at once.
func TestMakesAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	random(t, path("a"), 4<<20)
	writeFile(t, path("b"), append(read(t, path("a"))[1<<20:], "another end"...))
	for range times(2, 20) {
		var commands [][]string
		for _, c := range [][2]string{{"1", "a"}, {"2", "a"}, {"3", "b"}, {"1", "a"}} {
			commands = append(commands, []string{"make", "--chunk-size=4K", "--store=" + path("st.castr"), path(c[0] + ".caibx"), path(c[1])})
		}
		for i, r := range together(t, commands...) {
			if r.status != 0 || r.stderr != "" {
				t.Errorf("run %d: status %d: %s", i, r.status, r.stderr)
			}
		}
		holds(t, path("2.caibx"), read(t, path("1.caibx")))
		for index, image := range map[string]string{"1": "a", "3": "b"} {
			must(t, caravel, "extract", "--no-sync", "--store="+path("st.castr"), path(index+".caibx"), path("out"))
			holds(t, path("out"), read(t, path(image)))
		}
		clean(t, dir, "a", "b", "1.caibx", "2.caibx", "3.caibx", "out")
		if err := os.RemoveAll(path("st.castr")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExtractsAtOnce extracts to one target at once: one run does it, another
// one says that it is not needed or comes after.
func TestExtractsAtOnce(t *testing.T) {
	d := newDisk(t, 4<<20)
	for range times(3, 30) {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		args := []string{"extract", "--no-sync", d.index, out}
		done := 0
		for _, r := range together(t, args, args, args) {
			if r.status == 0 {
				done++
			} else {
				complaint(t, r, "another run is writing it")
			}
		}
		if done == 0 {
			t.Error("nobody did it")
		}
		holds(t, out, d.data)
		clean(t, dir, "out")
	}
}
