//go:build linux

package integration

import (
	"crypto/sha512"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestClosedOutput reads ten bytes and goes away.
func TestClosedOutput(t *testing.T) {
	d := newDisk(t, 8<<20)
	for _, args := range [][]string{{"cat", d.index}, {"extract", d.index, "-"}, {"list-chunks", d.index}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.ReadFull(r, make([]byte, 10))
			r.Close()
		}()
		got := runWith(t, func(c *exec.Cmd) { c.Stdout = w }, caravel, args...)
		w.Close()
		<-read
		complaint(t, got, "broken pipe")
	}
	// Nobody there from the start.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	complaint(t, runWith(t, func(c *exec.Cmd) { c.Stdout = w }, caravel, "version"), "broken pipe")
}

// TestStandardInput makes images of all that standard input may be.
func TestStandardInput(t *testing.T) {
	d := newDisk(t, 300_000)
	want := must(t, caravel, "digest", d.image)
	half := must(t, caravel, "digest", writeFile(t, d.path("half"), d.data[100_000:]))
	for _, tt := range []struct{ name, script, want string }{
		{"file", `"$0" make --no-store "$1" - <"$2"`, want},
		{"file from its middle", `{ dd bs=100000 count=1 of=/dev/null 2>/dev/null; "$0" make --no-store "$1" -; } <"$2"`, half},
		{"digest of a file from its middle", `{ dd bs=100000 count=1 of=/dev/null 2>/dev/null; "$0" digest -; } <"$2"`, half},
		{"pipe", `cat "$2" | "$0" make --no-store "$1" -`, want},
		{"pipe whose writer is gone", `cat "$2" | { sleep 0.2; "$0" make --no-store "$1" -; }`, want},
		{"nothing", `"$0" digest - </dev/null`, must(t, caravel, "digest", "/dev/null")},
	} {
		if got := must(t, "sh", "-c", tt.script, caravel, d.path("stdin.caibx"), d.image); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}

	// A socket, as a service manager or another program's runtime hands over.
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	go func() {
		_, _ = ours.Write(d.data)
		ours.Close()
	}()
	got := runWith(t, func(c *exec.Cmd) { c.Stdin = theirs }, caravel, "make", "--no-store", d.path("socket.caibx"), "-")
	if got.stdout != want {
		t.Errorf("socket: %+v, want %s", got, want)
	}
	// An index by a pipe.
	if got := must(t, "sh", "-c", `cat "$1" | "$0" cat --store="$2" -`, caravel, d.index, d.store); got != string(d.data) {
		t.Errorf("index by a pipe: %d bytes", len(got))
	}
}

func writeFile(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWrongUsage calls commands as they cannot be called.
func TestWrongUsage(t *testing.T) {
	d := newDisk(t, 1000)
	for _, args := range []string{
		"", "mak", "make", "make --frob x.caibx y", "make x.caidx y z", "make x.caibx", "make x.caibx y z",
		"make -n 0 x.caibx y", "make --chunk-size=0:1:2 x.caibx y", "make --digest=md5 x.caibx y", "make --store", "make --compression=lzma x.caibx y",
		"extract", "extract x.caibx y z", "extract --timeout=-1s x.caibx y", "extract --index-digest=12 x.caibx y", "extract -n 0 x.caibx y",
		"cat", "cat --offset=-1 x.caibx", "list-chunks", "list-chunks a b", "digest a b c", "digest --what=tree x", "mount x.caibx", "nbd-server", "nbd-server --tls-required x.caibx",
		"nbd-server --listen foo x.caibx", "nbd-server -l : x.caibx", "nbd-server --listen=localhost: x.caibx", "nbd-server -l 65536 x.caibx",
		"nbd-server --socket=" + strings.Repeat("s", 108) + " x.caibx", "nbd-server --overlay o --overlay-size=0 x.caibx", "nbd-server --overlay-size=1M x.caibx", "make --fs-size x.caidx .",
		"nbd-server --overlay o x.caibx y.caibx", "nbd-server --record=r x.caibx y.caibx", "nbd-server x.caibx x.caibx", "nbd-server x.caibx x.img", "nbd-server --record=r x.img",
		"extract --progress=loud x.caibx y", "extract --punch-holes=perhaps x.caibx y",
	} {
		r := runWith(t, func(c *exec.Cmd) { c.Dir = d.dir }, caravel, strings.Fields(args)...)
		complaintOf(t, r, 2, "--help")
		if r.stdout != "" {
			t.Errorf("caravel %s: %q on standard output", args, r.stdout)
		}
	}
	clean(t, d.dir, "disk.img", "disk.caibx")
}

// TestIndexDigest pins an index.
func TestIndexDigest(t *testing.T) {
	d := newDisk(t, 200_000)
	sum := sha512.Sum512_256(read(t, d.index))
	right := "--index-digest=" + hex.EncodeToString(sum[:])
	sum[0] ^= 1
	wrong := "--index-digest=" + hex.EncodeToString(sum[:])
	dir := t.TempDir()
	for _, args := range [][]string{
		{"extract", d.index, filepath.Join(dir, "out")}, {"cat", d.index}, {"digest", d.index}, {"list-chunks", d.index},
	} {
		must(t, caravel, append(args, right)...)
		_ = os.Remove(filepath.Join(dir, "out"))
		complaint(t, run(t, caravel, append(args, wrong)...), d.index, "not the index asked for", hex.EncodeToString(sum[:]))
		clean(t, dir)
	}
	complaint(t, run(t, caravel, "mount", wrong, d.index, filepath.Join(dir, "mnt")), "not the index asked for")
	complaint(t, run(t, caravel, "nbd-server", wrong, "--socket="+filepath.Join(dir, "sock"), d.index), "not the index asked for")
	absent(t, filepath.Join(dir, "mnt"))
	absent(t, filepath.Join(dir, "sock"))
}
