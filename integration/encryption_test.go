//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

// secretKey is that of the tests; its chunks' names end in its cipher and keyID.
const (
	secretKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	keyID     = "630dcd29"
	otherKey  = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

// keyFile is a file with a key.
func keyFile(t testing.TB, key string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// files are all regular files below dir.
func filesBelow(t testing.TB, dir string) []string {
	t.Helper()
	var files []string
	for name := range strings.Lines(must(t, "find", dir, "-type", "f")) {
		files = append(files, strings.TrimSpace(name))
	}
	return files
}

// TestEncryptionWithDesync: each reads what the other has encrypted, in both
// ciphers, compressed or not, and from desync's server.
func TestEncryptionWithDesync(t *testing.T) {
	peer := desync(t)
	d := newDisk(t, 1<<20, "--no-store")
	key := keyFile(t, secretKey)
	for _, cipher := range []string{"xchacha20-poly1305", "aes-256-gcm"} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s uncompressed %v", cipher, plain), func(t *testing.T) {
				dir := t.TempDir()
				theirs, ours, config := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours"), filepath.Join(dir, "config")
				compression, ending := "zstd", ".cacnk."+cipher+"-"+keyID
				if plain {
					compression, ending = "none", "."+cipher+"-"+keyID
				}
				of := map[string]any{"encryption": true, "encryption-algorithm": cipher, "encryption-key": secretKey, "uncompressed": plain}
				writeConfig(t, config, map[string]any{theirs: of, ours: of})
				if err := os.Mkdir(theirs, 0o755); err != nil {
					t.Fatal(err)
				}
				must(t, peer, "--config", config, "make", "-s", theirs, dir+"/theirs.caibx", d.image)
				must(t, caravel, "make", "--encryption="+cipher, "--encryption-key-file", key, "--compression", compression, "-s", ours, dir+"/ours.caibx", d.image)
				for _, at := range []string{theirs, ours} {
					for _, f := range filesBelow(t, at) {
						if !strings.HasSuffix(f, ending) {
							t.Fatalf("%s: want names that end in %s", f, ending)
						}
					}
					if got := must(t, caravel, "cat", "--encryption="+cipher, "--encryption-key-file", key, "-s", at, at+".caibx"); got != string(d.data) {
						t.Errorf("caravel reads something else from %s", at)
					}
					must(t, peer, "--config", config, "extract", "-s", at, at+".caibx", dir+"/out")
					if !bytes.Equal(read(t, dir+"/out"), d.data) {
						t.Errorf("desync reads something else from %s", at)
					}
				}
				if plain {
					return
				}
				url := desyncServer(t, peer, ours, cipher, config)
				if got := must(t, caravel, "cat", "--encryption="+cipher, "--encryption-key-file", key, "-s", url, ours+".caibx"); got != string(d.data) {
					t.Error("caravel reads something else from desync's server")
				}
			})
		}
	}
}

func writeConfig(t testing.TB, path string, stores map[string]any) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"store-options": stores})
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// desyncServer serves a store, encrypted, by desync's chunk-server.
func desyncServer(t testing.TB, peer, dir, cipher, config string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	startWith(t, func(c *exec.Cmd) { c.Env = append(os.Environ(), "DESYNC_ENCRYPTION_KEY="+secretKey) },
		peer, "--config", config, "chunk-server", "--encryption", "--encryption-algorithm", cipher, "-s", dir, "-l", addr)
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return "http://" + addr + "/"
		}
		if time.Now().After(deadline) {
			t.Fatalf("desync's server does not come up: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // nothing tells when it listens
	}
}

// TestWrongKeySaysSo wherever the chunks are.
func TestWrongKeySaysSo(t *testing.T) {
	d := newDisk(t, 100_000, "--encryption-key-file", keyFile(t, secretKey))
	o := serveDir(t, d.dir, origin.Options{})
	other := "--encryption-key-file=" + keyFile(t, otherKey)
	for _, tt := range []struct {
		name, index, said string
		flags             []string
	}{
		{"another key", d.index, "wrong key: there it is encrypted with xchacha20-poly1305-" + keyID, []string{other}},
		{"another cipher", d.index, "wrong key: there it is encrypted with xchacha20-poly1305-" + keyID, []string{other, "--encryption=aes-256-gcm"}},
		{"no key", d.index, "there it is encrypted, with the key xchacha20-poly1305-" + keyID, nil},
		{"another key, over HTTP", o.URL() + "/disk.caibx", "chunks with another key than xchacha20-poly1305-", []string{other}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, caravel, append(append([]string{"cat"}, tt.flags...), tt.index)...)
			if r.status != 1 || !strings.Contains(r.stderr, tt.said) || strings.Contains(r.stderr, otherKey[8:20]) {
				t.Errorf("status %d, %s; want %q", r.status, r.stderr, tt.said)
			}
		})
	}
	for _, f := range filesBelow(t, d.store) { // which were read under their names
		b := read(t, f)
		b[len(b)/2] ^= 1
		if err := os.Chmod(f, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, caravel, "cat", "--encryption-key-file", keyFile(t, secretKey), d.index)
	if r.status != 1 || !strings.Contains(r.stderr, "authentication failed") {
		t.Errorf("damaged: status %d, %s", r.status, r.stderr)
	}
}

// TestCachesKeepItEncrypted: what comes encrypted is on no disk in another form,
// unless the user has named the file.
func TestCachesKeepItEncrypted(t *testing.T) {
	key := "--encryption-key-file=" + keyFile(t, secretKey)
	d := newDisk(t, 1<<20, key)
	o := serveDir(t, d.dir, origin.Options{})
	url := o.URL() + "/disk.caibx"
	named, dir := filepath.Join(t.TempDir(), "named"), t.TempDir()
	if got := must(t, caravel, "cat", key, "-c", named, url); got != string(d.data) {
		t.Error("with --cache, something else is read")
	}
	m, file := mounted(t, key, "--cache-dir", dir, "--no-sweep", url, t.TempDir())
	if !bytes.Equal(read(t, file), d.data) {
		t.Error("with --cache-dir, something else is read")
	}
	m.ends(syscall.SIGINT, soon)
	for _, at := range []string{named, dir + "/chunks"} {
		files := filesBelow(t, at)
		if len(files) < 10 {
			t.Errorf("%s: %d chunks are kept", at, len(files))
		}
		for _, f := range files {
			if !strings.HasSuffix(f, ".xchacha20-poly1305-"+keyID) {
				t.Errorf("%s: not encrypted", f)
			}
			if piece := read(t, f); bytes.Contains(piece, d.data[:64]) || bytes.Contains(piece, []byte("\x28\xb5\x2f\xfd")) {
				t.Errorf("%s: not encrypted", f)
			}
		}
	}
	o.Reset()
	must(t, caravel, "cat", key, "-c", named, url)
	m, file = mounted(t, key, "--cache-dir", dir, "--no-sweep", url, t.TempDir())
	read(t, file)
	m.ends(syscall.SIGINT, soon)
	if n := askedOnce(o); n != 0 {
		t.Errorf("%d chunks are asked for again", n)
	}
	if r := run(t, caravel, "mount", key, "--cache-dir", dir, "--materialize=yes", url, t.TempDir()); r.status != 2 || !strings.Contains(r.stderr, "encrypted") {
		t.Errorf("materialised: status %d, %s", r.status, r.stderr)
	}
}

// TestEncryptedTreeHasNoSidecar, which would show its names, unless it is asked for.
func TestEncryptedTreeHasNoSidecar(t *testing.T) {
	key := "--encryption-key-file=" + keyFile(t, secretKey)
	for flag, want := range map[string]bool{key: false, "--no-tree=no": true} {
		p := packTree(t, caravel, smallFiles(t), key, flag)
		if _, err := os.Stat(p.index + ".tree"); (err == nil) != want {
			t.Errorf("%s: sidecar: %v, want %v", flag, err, want)
		}
		if got := strings.TrimSpace(must(t, caravel, "digest", key, p.index)); got != p.digest {
			t.Errorf("digest %s, want %s", got, p.digest)
		}
		o, cache := serveDir(t, p.dir, origin.Options{}), t.TempDir()
		m, dir := mountedTree(t, key, "--no-tree", "--cache-dir", cache, o.URL()+"/tree.caidx")
		must(t, "diff", "-r", p.source, dir)
		m.ends(syscall.SIGINT, soon)
		for _, f := range filesBelow(t, cache) {
			if strings.Contains(f, "tree") && strings.Contains(f, "/files/") {
				t.Errorf("%s is kept", f)
			}
		}
	}
}
