//go:build linux

package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"caravel/internal/origin"
)

// TestServeFolder serves each disk image of a folder, and what is named beside it.
func TestServeFolder(t *testing.T) {
	need(t, "nbdcopy", "nbdinfo")
	a, b, other := newDisk(t, 300_000), newDisk(t, 200_000), newDisk(t, 100_000)
	dir := t.TempDir()
	for name, d := range map[string]*disk{"zebra": a, "ant": b} {
		writeFile(t, filepath.Join(dir, name+".caibx"), read(t, d.index))
	}
	plain := writeFile(t, filepath.Join(dir, "plain.img"), other.data)
	out := filepath.Join(t.TempDir(), "out")
	server, uri := startNBD(t, "--socket", filepath.Join(shortDir(t), "s"), "--store="+a.store, "--store="+b.store, dir, plain)
	for name, want := range map[string][]byte{"": b.data, "ant": b.data, "zebra": a.data, "plain": other.data} {
		must(t, "nbdcopy", export(uri, name), out)
		holds(t, out, want)
	}
	server.ends(syscall.SIGTERM, soon)

	double := writeFile(t, filepath.Join(t.TempDir(), "ant.img"), nil)
	complaintOf(t, run(t, caravel, "nbd-server", "--listen=127.0.0.1:0", dir, double), 2, filepath.Join(dir, "ant.caibx"), double, `"ant"`)
	complaint(t, run(t, caravel, "nbd-server", "--listen=127.0.0.1:0", t.TempDir()), "no *.caibx")
}

// TestUnlisted exports are there for who knows their names.
func TestUnlisted(t *testing.T) {
	need(t, "nbdinfo")
	d := newDisk(t, 10_000)
	_, uri := startNBD(t, "--socket", filepath.Join(shortDir(t), "s"), "--unlisted", d.index)
	if r := run(t, "nbdinfo", "--list", uri); r.status == 0 || strings.Contains(r.stdout, "disk") {
		t.Errorf("status %d: %s", r.status, r.stdout)
	}
	must(t, "nbdinfo", uri) // which names the export
}

// TestPIDFile is there as long as clients can connect.
func TestPIDFile(t *testing.T) {
	d := newDisk(t, 10_000)
	path := filepath.Join(t.TempDir(), "pid")
	server, _ := startNBD(t, "--socket", filepath.Join(shortDir(t), "s"), "--pid-file", path, d.index)
	holds(t, path, fmt.Appendln(nil, server.cmd.Process.Pid))
	server.ends(syscall.SIGTERM, soon)
	absent(t, path)
	complaint(t, run(t, caravel, "nbd-server", "--socket", filepath.Join(shortDir(t), "s"), "--pid-file", filepath.Join(path, "pid"), d.index), "--pid-file", path)
}

// TestUsualPort needs no flag.
func TestUsualPort(t *testing.T) {
	need(t, "nbdinfo")
	d := newDisk(t, 10_000)
	server := start(t, caravel, "nbd-server", d.index)
	select {
	case line := <-server.lines:
		if line != "Serving: nbd://127.0.0.1:10809" {
			t.Errorf("says %s", line)
		}
		must(t, "nbdinfo", "nbd://localhost/disk")
	case <-server.exited:
		if !strings.Contains(server.stderr.String(), "in use") {
			t.Errorf("ended: %s", server.stderr)
		}
	}
}

// TestSocketActivation serves on sockets that were passed, whatever the flags say.
func TestSocketActivation(t *testing.T) {
	need(t, "systemd-socket-activate", "nbdcopy")
	d := newDisk(t, 300_000)
	socket := filepath.Join(shortDir(t), "s")
	unused := filepath.Join(shortDir(t), "unused")
	// Two sockets; the server starts with the first client.
	server := start(t, "systemd-socket-activate", "-l", socket, "-l", freePort(t), "--fdname=one:two",
		caravel, "nbd-server", "--socket="+unused, "--tls-required=no", d.index)
	out := filepath.Join(t.TempDir(), "out")
	eventually(t, "somebody listens", func() bool { _, err := os.Lstat(socket); return err == nil })
	must(t, "nbdcopy", "nbd+unix:///?socket="+socket, out)
	holds(t, out, d.data)
	if uri := server.expect("Serving: "); uri != "nbd+unix:///?socket="+socket {
		t.Errorf("serving %s", uri)
	}
	must(t, "nbdcopy", server.expect("Serving: "), out)
	holds(t, out, d.data)
	absent(t, unused)
	server.ends(syscall.SIGTERM, soon)
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("the service manager's socket is gone: %v", err)
	}

	// What is passed and is no socket is named.
	f, err := os.Open(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := runWith(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{f} },
		"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=odd exec "$0" nbd-server "$1"`, caravel, d.index)
	complaint(t, r, "odd", "socket")
}

// TestStartedByClient is started by libnbd, which passes it a socket and ends it.
func TestStartedByClient(t *testing.T) {
	need(t, "nbdcopy", "nbdinfo")
	d := sparseDisk(t)
	server := []string{"[", caravel, "nbd-server", d.index, "]"}
	if size := must(t, "nbdinfo", append([]string{"--size", "--"}, server...)...); !strings.Contains(size, fmt.Sprintln(len(d.data))) {
		t.Errorf("size: %s", size)
	}
	out := filepath.Join(t.TempDir(), "out")
	must(t, "nbdcopy", append(append([]string{"--"}, server...), out)...)
	holds(t, out, d.data)
}

// TestLocalMap tells over NBD what can be read without a network: nothing but
// zeros at first, then what was read, in the next run, too.
func TestLocalMap(t *testing.T) {
	need(t, "nbdinfo", "qemu-io")
	r := recipe{seed: 3, size: 4_000_000, kind: "random"}
	d := cut(t, func(path string) { r.write(t, path) })
	o := serveDir(t, d.dir, origin.Options{})
	cache := filepath.Join(t.TempDir(), "cache")
	local := func(uri string) (size int) {
		for line := range strings.Lines(must(t, "nbdinfo", "--map=caravel:cached", uri)) {
			if f := strings.Fields(line); f[2] == "1" {
				n, err := strconv.Atoi(f[1])
				if err != nil {
					t.Fatalf("%v in %s", err, line)
				}
				size += n
			}
		}
		return size
	}
	flags := []string{"--no-sweep", "--profile=none", "--cache-dir=" + cache, "--socket"}
	server, uri := startNBD(t, append(flags, filepath.Join(shortDir(t), "s"), o.URL()+"/disk.caibx")...)
	if n := local(uri); n != 0 {
		t.Errorf("%d bytes are local at first", n)
	}
	must(t, "qemu-io", "-r", "-f", "raw", "-c", "read 1M 512k", uri)
	before := o.Counts().Requests
	n := local(uri)
	if n < 512<<10 || n > 3<<20 {
		t.Errorf("%d bytes are local after a read of 512 KiB", n)
	}
	if o.Counts().Requests != before {
		t.Error("asking what is local went over the network")
	}
	server.ends(syscall.SIGTERM, soon)

	_, uri = startNBD(t, append(flags, filepath.Join(shortDir(t), "s"), o.URL()+"/disk.caibx")...)
	if again := local(uri); again < n {
		t.Errorf("%d bytes are local in the next run, %d were", again, n)
	}
	// From a store on this machine all is.
	_, uri = startNBD(t, append(flags, filepath.Join(shortDir(t), "s"), d.index)...)
	if n := local(uri); n != len(d.data) {
		t.Errorf("%d bytes of a store here are local, of %d", n, len(d.data))
	}
}

// TestCacheHint has a client say what it will read: that is fetched then, and reading
// it takes no request.
func TestCacheHint(t *testing.T) {
	need(t, "nbdsh")
	t.Setenv("PATH", "/usr/bin:"+os.Getenv("PATH")) // of several Pythons that of the system has libnbd
	if try := run(t, "nbdsh", "-c", "pass"); try.status != 0 {
		t.Skipf("nbdsh is not installed: %s", try.stderr) // its part of Python
	}
	r := recipe{seed: 4, size: 4_000_000, kind: "random"}
	d := cut(t, func(path string) { r.write(t, path) })
	o := serveDir(t, d.dir, origin.Options{})
	_, uri := startNBD(t, "--no-sweep", "--profile=none", "--cache-dir="+filepath.Join(t.TempDir(), "cache"),
		"--socket", filepath.Join(shortDir(t), "s"), o.URL()+"/disk.caibx")
	const off, size = 1 << 20, 64 << 10
	before := o.Counts().Requests
	must(t, "nbdsh", "-u", uri, "-c", fmt.Sprintf("assert h.can_cache(); h.cache(%d, %d)", size, off))
	eventually(t, "the range is here", func() bool {
		out := must(t, "nbdsh", "-c", fmt.Sprintf(`
h.add_meta_context("caravel:cached")
h.connect_uri(%q)
runs = []
def extent(context, at, entries, error):
    runs.extend(entries)
h.block_status(%d, %d, extent)
print(runs)`, uri, size, off))
		return out == fmt.Sprintf("[%d, 1]\n", size)
	})
	asked := o.Counts().Requests
	if asked == before {
		t.Error("the hint asked for nothing")
	}
	sum := sha256.Sum256(d.data[off : off+size])
	out := must(t, "nbdsh", "-u", uri, "-c", fmt.Sprintf("import hashlib; print(hashlib.sha256(h.pread(%d, %d)).hexdigest())", size, off))
	if got := strings.TrimSpace(out); got != hex.EncodeToString(sum[:]) {
		t.Errorf("read bytes with digest %s, want %x", got, sum)
	}
	if n := o.Counts().Requests - asked; n != 0 {
		t.Errorf("reading took %d requests", n)
	}
}

// TestPlainHoles serves a plain file that has holes: clients are told of them, and
// copies have them.
func TestPlainHoles(t *testing.T) {
	need(t, "nbdinfo", "nbdcopy")
	image := filepath.Join(t.TempDir(), "raw.img")
	if err := os.WriteFile(image, bytes.Repeat([]byte{7}, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	_, uri := startNBD(t, "--socket", filepath.Join(shortDir(t), "s"), image)
	var runs []struct{ Offset, Length, Type int }
	out := must(t, "nbdinfo", "--map", "--json", uri)
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got := fmt.Sprint(runs); got != "[{0 1048576 0} {1048576 66060288 3}]" {
		t.Errorf("map: %s", got)
	}
	copied := filepath.Join(t.TempDir(), "out")
	must(t, "nbdcopy", uri, copied)
	holds(t, copied, read(t, image))
	st, err := os.Stat(copied)
	if err != nil {
		t.Fatal(err)
	}
	if held := st.Sys().(*syscall.Stat_t).Blocks * 512; held > 2<<20 {
		t.Errorf("the copy takes %d bytes", held)
	}
}
