//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/integration/relay"
)

// A farImage is a disk and a tree to be sent over ssh.
type farImage struct {
	dir, disk, tree string
	content         []byte
}

func newFarImage(t testing.TB) farImage {
	t.Helper()
	dir := t.TempDir()
	f := farImage{dir: dir, disk: filepath.Join(dir, "disk.img"), tree: filepath.Join(dir, "tree")}
	f.content = make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{5}).Read(f.content)
	clear(f.content[1<<20 : 2<<20])
	files := map[string][]byte{f.disk: f.content, filepath.Join(f.tree, "a", "big"): f.content[:1<<20], filepath.Join(f.tree, "small"): []byte("hello\n")}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// same checks that a file holds the disk.
func (f farImage) same(t testing.TB, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, f.content) {
		t.Errorf("%s: %d bytes, want %d; error %v", path, len(got), len(f.content), err)
	}
	os.Remove(path)
}

// TestSSHStore makes images into each far side and uses them from there.
func TestSSHStore(t *testing.T) {
	needFUSE(t)
	startFar(t)
	for _, far := range farSides(t) {
		t.Run(far.name, func(t *testing.T) {
			setenv(t, "CASYNC_REMOTE_PATH", far.program)
			f := newFarImage(t)
			place := filepath.Join(f.dir, "far")
			if err := os.Mkdir(place, 0o755); err != nil {
				t.Fatal(err)
			}
			disk, tree := "far:"+place+"/disk.caibx", "ssh://far"+place+"/tree.caidx"
			made := must(t, caravel, "make", "--progress=none", disk, f.disk)
			if again := must(t, caravel, "make", "--progress=none", "--json", disk, f.disk); !strings.Contains(again, `"stored":0`) {
				t.Errorf("made again: %s", again)
			}
			must(t, caravel, "make", "--progress=none", tree, f.tree)
			must(t, caravel, "make", "--progress=none", filepath.Join(place, "tree.catar"), f.tree)
			if want := must(t, caravel, "digest", f.disk); made != want {
				t.Errorf("made %s, want %s", made, want)
			}
			holdsOnly(t, place, "default.castr", "disk.caibx", "tree.caidx", "tree.catar")

			out := filepath.Join(f.dir, "out")
			must(t, caravel, "extract", "--progress=none", disk, out)
			f.same(t, out)
			must(t, caravel, "extract", "--progress=none", tree, out)
			must(t, "diff", "-r", f.tree, out)
			os.RemoveAll(out)
			must(t, caravel, "extract", "--progress=none", "far:"+place+"/tree.catar", out)
			must(t, "diff", "-r", f.tree, out)
			if got := must(t, caravel, "cat", "--offset", "1000", "--length", "50", disk); got != string(f.content[1000:1050]) {
				t.Error("cat: other bytes")
			}
			d, dir := mountedTree(t, tree)
			must(t, "diff", "-r", f.tree, dir)
			d.stop(syscall.SIGTERM)
		})
	}
}

// holdsOnly checks that a folder has these files and nothing else.
func holdsOnly(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s holds %v, want %v", dir, got, want)
	}
}

// TestSSHDevice attaches an image that is behind an ssh.
func TestSSHDevice(t *testing.T) {
	needLoop(t)
	startFar(t)
	setenv(t, "CASYNC_REMOTE_PATH", caravel)
	f := newFarImage(t)
	index := "far:" + filepath.Join(f.dir, "disk.caibx")
	must(t, caravel, "make", "--progress=none", index, f.disk)
	d, device := attached(t, index)
	got, err := os.ReadFile(device)
	if err != nil || !bytes.Equal(got, f.content) {
		t.Errorf("%d bytes of %d, error %v", len(got), len(f.content), err)
	}
	d.stop(syscall.SIGTERM)
}

// TestSSHPeers has the peers' clients use a caravel on the far side, and a caravel
// use theirs.
func TestSSHPeers(t *testing.T) {
	need(t, "casync")
	startFar(t)
	setenv(t, "CASYNC_REMOTE_PATH", caravel)
	f := newFarImage(t)
	index, chunks, out := filepath.Join(f.dir, "d.caibx"), filepath.Join(f.dir, "default.castr"), filepath.Join(f.dir, "out")
	want := must(t, "casync", "digest", f.disk)
	if got := must(t, "casync", "make", "far:"+index, f.disk); got != want {
		t.Errorf("casync made %s, want %s", got, want)
	}
	must(t, "casync", "make", "far:"+filepath.Join(f.dir, "t.catar"), f.tree)
	holdsOnly(t, f.dir, "d.caibx", "default.castr", "disk.img", "t.catar", "tree")
	must(t, "casync", "extract", "far:"+index, out)
	f.same(t, out)
	if r := run(t, "casync", "extract", "far:"+strings.Replace(index, "d.caibx", "none.caibx", 1), out); r.status == 0 || !strings.Contains(r.stderr, "No such file or directory") {
		t.Errorf("casync, of an index that is not there: status %d, %s", r.status, r.stderr)
	}
	t.Run("desync", func(t *testing.T) {
		desync := desync(t)
		must(t, desync, "extract", "-s", "ssh://far"+chunks, index, out)
		f.same(t, out)
		setenv(t, "CASYNC_REMOTE_PATH", desync)
		must(t, caravel, "extract", "--progress=none", "-s", "ssh://far"+chunks, index, out)
		f.same(t, out)
	})
}

// TestSSHMistakes says what is to be done.
func TestSSHMistakes(t *testing.T) {
	startFar(t)
	f := newFarImage(t)
	index := filepath.Join(f.dir, "disk.caibx")
	must(t, caravel, "make", "--progress=none", index, f.disk)
	tests := []struct{ remote, location, want string }{
		{"casync-none", "far:" + index, "not found); install casync or caravel there, or name another with $CASYNC_REMOTE_PATH"},
		{caravel, "nobody@far:" + index, "Permission denied (publickey)"},
		{caravel, "far:" + index + ".none", "not there"},
		{caravel, "far:", "names no path behind the host"},
	}
	for _, tt := range tests {
		setenv(t, "CASYNC_REMOTE_PATH", tt.remote)
		r := run(t, caravel, "extract", "--progress=none", tt.location, filepath.Join(f.dir, "out"))
		if r.status != 1 || !strings.Contains(r.stderr, tt.want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s by %s: status %d, %q; want %q", tt.location, tt.remote, r.status, r.stderr, tt.want)
		}
	}
}

// TestSSHHelper reads by a helper program of a scheme that nobody knows.
func TestSSHHelper(t *testing.T) {
	need(t, "casync", "nginx")
	helper := "/usr/lib/casync/protocols/casync-http"
	need(t, helper)
	f := newFarImage(t)
	n := startNginx(t, f.dir, false)
	must(t, caravel, "make", "--progress=none", filepath.Join(f.dir, "disk.caibx"), f.disk)
	protocols := t.TempDir()
	// It knows what to do by its name, and its URLs by theirs.
	script := fmt.Sprintf("#!/bin/bash\nexec %s \"${@//foo:/http:}\"\n", helper)
	if err := os.WriteFile(filepath.Join(protocols, "casync-foo"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	setenv(t, "CASYNC_PROTOCOL_PATH", protocols)
	url, out := strings.Replace(n.url, "http:", "foo:", 1), filepath.Join(f.dir, "out")
	must(t, caravel, "extract", "--progress=none", url+"/disk.caibx", out)
	f.same(t, out)
	if r := run(t, caravel, "make", "--progress=none", url+"/new.caibx", f.disk); r.status != 1 || !strings.Contains(r.stderr, "push") {
		t.Errorf("make: status %d, %s", r.status, r.stderr)
	}
}

// TestSSHKilled loses the far side in the middle of a mount's reads.
func TestSSHKilled(t *testing.T) {
	needFUSE(t)
	address := startFar(t)
	r, err := relay.Start(address, relay.Options{RTT: 10 * time.Millisecond, Down: 4e6, Faults: func(n int64) relay.Fault {
		if n <= 4 {
			return relay.Fault{Kind: relay.Reset, After: 600_000}
		}
		return relay.Fault{}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	through(t, r.Addr())
	setenv(t, "CASYNC_REMOTE_PATH", caravel)
	f := newFarImage(t)
	index := filepath.Join(f.dir, "disk.caibx")
	must(t, caravel, "make", "--progress=none", index, f.disk)
	d, dir := mountedTree(t, "--no-sweep", "-s", "far:"+filepath.Join(f.dir, "default.castr"), index)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, error %v", entries, err)
	}
	file, err := os.Open(filepath.Join(dir, entries[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(file)
	file.Close()
	if err != nil || !bytes.Equal(got, f.content) {
		t.Errorf("%d bytes of %d, error %v", len(got), len(f.content), err)
	}
	if n := r.Counts().Connections; n < 2 {
		t.Errorf("%d connections: none was lost", n)
	}
	d.stop(syscall.SIGTERM)
}

// TestSSHLatency compares with casync over a line of 20 ms.
func TestSSHLatency(t *testing.T) {
	need(t, "casync")
	address := startFar(t)
	r, err := relay.Start(address, relay.Options{RTT: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	through(t, r.Addr())
	setenv(t, "CASYNC_REMOTE_PATH", "casync")
	f := newFarImage(t)
	disk := filepath.Join(f.dir, "disk.caibx")
	must(t, caravel, "make", "--progress=none", "--chunk-size=4K", disk, f.disk)
	took := map[string]time.Duration{}
	for name, cmd := range map[string]*exec.Cmd{
		"caravel": exec.Command(caravel, "extract", "--progress=none", "far:"+disk, filepath.Join(f.dir, "a")),
		"casync":  exec.Command("casync", "extract", "far:"+disk, filepath.Join(f.dir, "b")),
	} {
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v; %s", name, err, out)
		}
		took[name] = time.Since(began)
	}
	t.Logf("caravel %v, casync %v", took["caravel"], took["casync"])
	f.same(t, filepath.Join(f.dir, "a"))
}
