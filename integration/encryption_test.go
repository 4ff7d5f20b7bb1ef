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

// TestSidecarOfAnEncryptedPlace is left out, too, where only the configuration says that
// the chunks are encrypted: by make, and by copy.
func TestSidecarOfAnEncryptedPlace(t *testing.T) {
	dir, conf := t.TempDir(), filepath.Join(t.TempDir(), "config.json")
	secret, clear := filepath.Join(dir, "secret.castr"), filepath.Join(dir, "clear.castr")
	writeConfig(t, conf, map[string]any{secret: map[string]any{"encryption": true, "encryption-key": secretKey}})
	p := packTree(t, caravel, smallFiles(t))
	for _, tt := range []struct {
		name string
		args []string
		want bool
	}{
		{"made", []string{"make", "--store", secret}, false},
		{"made-wanted", []string{"make", "--no-tree=no", "--store", secret}, true},
		{"made-clear", []string{"make", "--store", clear}, true},
		{"copied", []string{"copy", "--target-store", secret, p.index}, false},
		{"copied-clear", []string{"copy", "--target-store", clear, p.index}, true},
	} {
		out := filepath.Join(dir, tt.name+".caidx")
		args := append(append(tt.args[:1:1], "--config", conf), tt.args[1:]...)
		if args = append(args, out); tt.args[0] == "make" {
			args = append(args, p.source)
		}
		must(t, caravel, args...)
		if _, err := os.Stat(out + ".tree"); (err == nil) != tt.want {
			t.Errorf("%s: sidecar: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// encryptedServer is a chunk-server whose clients have its key.
func encryptedServer(t testing.TB, key string, args ...string) (s *daemon, url string) {
	t.Helper()
	return startServer(t, append([]string{"chunk-server", "--encryption-key-file", key}, args...)...)
}

// TestChunkServerEncrypted serves chunks encrypted that lie otherwise, and those that
// lie so as they are; and takes them.
func TestChunkServerEncrypted(t *testing.T) {
	key := keyFile(t, secretKey)
	for _, tt := range []struct {
		name   string
		make   []string // of the store
		cipher string
		plain  bool // clients' are not compressed
	}{
		{"of a plain store", nil, "xchacha20-poly1305", false},
		{"of a plain store, uncompressed", nil, "xchacha20-poly1305", true},
		{"of one with another cipher", []string{"--encryption=aes-256-gcm", "--encryption-key-file", key}, "xchacha20-poly1305", false},
		{"of one with the same key", []string{"--encryption=aes-256-gcm", "--encryption-key-file", key}, "aes-256-gcm", false},
		{"of one with the same key, uncompressed", []string{"--encryption", "--encryption-key-file", key, "--compression=none"}, "xchacha20-poly1305", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDisk(t, 500_000, tt.make...)
			conf := filepath.Join(t.TempDir(), "config.json")
			of := map[string]any{}
			if tt.make != nil {
				algorithm := "aes-256-gcm"
				if tt.plain {
					algorithm = "xchacha20-poly1305"
				}
				of = map[string]any{"encryption": true, "encryption-algorithm": algorithm, "encryption-key": secretKey, "uncompressed": tt.plain}
			}
			writeConfig(t, conf, map[string]any{d.store: of})
			args, client, ending := []string{"--config", conf, "--store", d.store, "--encryption=" + tt.cipher}, []string{"--encryption=" + tt.cipher, "--encryption-key-file", key}, ".cacnk."
			theirs := map[string]any{"encryption": true, "encryption-algorithm": tt.cipher, "encryption-key": secretKey, "uncompressed": tt.plain}
			if tt.plain {
				args, ending = append(args, "--uncompressed"), "."
			}
			_, url := encryptedServer(t, key, args...)
			if tt.plain {
				ours := filepath.Join(t.TempDir(), "ours.json")
				writeConfig(t, ours, map[string]any{url: map[string]any{"uncompressed": true}})
				client = append(client, "--config", ours)
			}
			if got := must(t, caravel, append(append([]string{"cat"}, client...), "-s", url, d.index)...); got != string(d.data) {
				t.Error("caravel reads something else")
			}
			id := d.chunks(t)[0].ID
			at := url + id[:4] + "/" + id + ending + tt.cipher + "-" + keyID
			resp, b := answered(t, "GET", at, nil)
			if resp.StatusCode != 200 || bytes.Contains(b, d.data[:64]) || bytes.Contains(b, []byte("\x28\xb5\x2f\xfd")) {
				t.Errorf("%d: not encrypted", resp.StatusCode)
			}
			lies, err := os.ReadFile(filepath.Join(d.store, id[:4], filepath.Base(at)))
			if asItLies := err == nil && bytes.Equal(lies, b); asItLies != strings.Contains(tt.name, "the same") {
				t.Errorf("sent as it lies: %v", asItLies)
			}
			// Who puts two halves together has to have them of the same bytes.
			if part, half := answered(t, "GET", at, nil, "Range", "bytes=10-19"); part.StatusCode == 206 && !bytes.Equal(half, b[10:20]) {
				t.Error("a range of other bytes")
			}
			if resp, text := answered(t, "GET", url+id[:4]+"/"+id+".cacnk", nil); resp.StatusCode != 400 || !strings.Contains(string(text), "with the key "+tt.cipher+"-"+keyID) {
				t.Errorf("not encrypted: %d %s", resp.StatusCode, text)
			}
			if peer := os.Getenv("DESYNC"); peer != "" {
				writeConfig(t, conf, map[string]any{url: theirs})
				must(t, peer, "--config", conf, "extract", "-s", url, d.index, d.path("out"))
				holds(t, d.path("out"), d.data)
			}
		})
	}
}

// TestChunkServerEncryptedWritten has clients bring encrypted chunks, ours and desync's;
// they are compared with their names, and lie as the store has them.
func TestChunkServerEncryptedWritten(t *testing.T) {
	key := keyFile(t, secretKey)
	d := newDisk(t, 500_000)
	kept := d.path("kept.castr")
	s, url := encryptedServer(t, key, "--store", kept, "--writable")
	must(t, caravel, "make", "--encryption-key-file", key, "-s", url, d.path("ours.caibx"), d.image)
	must(t, caravel, "extract", "--store", kept, d.path("ours.caibx"), d.path("out"))
	holds(t, d.path("out"), d.data)
	pieces := d.chunks(t)
	at := func(p int) string {
		return pieces[p].file(strings.TrimSuffix(url, "/")) + ".xchacha20-poly1305-" + keyID
	}
	_, other := encryptedServer(t, key, "--store", d.store)
	resp, good := answered(t, "GET", strings.Replace(at(0), url, other, 1), nil)
	if resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, good)
	}
	for name, tt := range map[string]struct {
		at     string
		body   []byte
		status int
	}{
		"right":        {at(0), good, 200},
		"another":      {at(1), good, 400},
		"cut":          {at(0), good[:len(good)-1], 400},
		"changed":      {at(0), append([]byte{good[0] ^ 1}, good[1:]...), 400},
		"unencrypted":  {at(0), read(t, pieces[0].file(d.store)), 400},
		"nothing":      {at(0), nil, 400},
		"without name": {pieces[0].file(strings.TrimSuffix(url, "/")), read(t, pieces[0].file(d.store)), 400},
	} {
		if resp, text := answered(t, "PUT", tt.at, bytes.NewReader(tt.body)); resp.StatusCode != tt.status {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, s.stderr)
	}
	clean(t, kept)
	if peer := os.Getenv("DESYNC"); peer != "" {
		conf, theirs := filepath.Join(t.TempDir(), "conf.json"), d.path("theirs.castr")
		_, url := encryptedServer(t, key, "--store", theirs, "--writable")
		writeConfig(t, conf, map[string]any{url: map[string]any{"encryption": true, "encryption-key": secretKey}})
		must(t, peer, "make", "--config", conf, "-s", url, d.path("theirs.caibx"), d.image)
		must(t, caravel, "extract", "--store", theirs, d.path("theirs.caibx"), d.path("out"))
		holds(t, d.path("out"), d.data)
	}
}

// TestChunkServerWithoutKey passes on what it cannot read.
func TestChunkServerWithoutKey(t *testing.T) {
	key := keyFile(t, secretKey)
	d := newDisk(t, 500_000, "--encryption-key-file", key)
	name := "xchacha20-poly1305-" + keyID
	_, url := startServer(t, "chunk-server", "--store", d.store, "--encrypted-with", name)
	if got := must(t, caravel, "cat", "--encryption-key-file", key, "-s", url, d.index); got != string(d.data) {
		t.Error("caravel reads something else")
	}
	if r := run(t, caravel, "cat", "--encryption-key-file", keyFile(t, otherKey), "-s", url, d.index); r.status != 1 {
		t.Errorf("with another key: status %d", r.status)
	}
	p := d.chunks(t)[0]
	for path, status := range map[string]int{p.file("") + "." + name: 200, p.file(""): 400, "/0000/" + strings.Repeat("0", 64) + ".cacnk." + name: 404, p.file("") + "." + name + "0": 400} {
		if resp, _ := answered(t, "GET", strings.TrimSuffix(url, "/")+path, nil); resp.StatusCode != status {
			t.Errorf("%s: %d, not %d", path, resp.StatusCode, status)
		}
	}
	kept := d.path("kept.castr")
	_, to := startServer(t, "chunk-server", "--store", kept, "--encrypted-with", name, "--writable", "--skip-verify-write")
	must(t, caravel, "make", "--encryption-key-file", key, "-s", to, d.path("new.caibx"), d.image)
	must(t, caravel, "verify", "--encryption-key-file", key, "--store", kept)
	if got := must(t, caravel, "cat", "--encryption-key-file", key, "-s", kept, d.path("new.caibx")); got != string(d.data) {
		t.Error("something else is kept")
	}
	for _, f := range filesBelow(t, kept) {
		if !strings.HasSuffix(f, ".cacnk."+name) {
			t.Errorf("%s: not encrypted", f)
		}
	}
	if peer := os.Getenv("DESYNC"); peer != "" {
		conf := filepath.Join(t.TempDir(), "conf.json")
		of := map[string]any{"encryption": true, "encryption-key": secretKey}
		writeConfig(t, conf, map[string]any{url: of, to: of})
		must(t, peer, "--config", conf, "extract", "-s", url, d.index, d.path("out"))
		holds(t, d.path("out"), d.data)
		must(t, peer, "--config", conf, "make", "-s", to, d.path("theirs.caibx"), d.image)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--encrypted-with", "rot13-00000000"}, "want a cipher"},
		{[]string{"--encrypted-with", name, "--encryption"}, "no key"},
		{[]string{"--encrypted-with", name, "--writable"}, "--skip-verify-write"},
		{[]string{"--encrypted-with", name, "--cache", d.path("c")}, "without a --cache"},
		{[]string{"--encrypted-with", name, "--skip-verify-read=no"}, "needs the key"},
		{[]string{"--encrypted-with", name, "-s", url}, "is for folders"},
		{[]string{"--encryption"}, "there is no key"},
	} {
		r := run(t, caravel, append([]string{"chunk-server", "-s", d.store}, tt.args...)...)
		if r.status == 0 || !strings.Contains(r.stderr, tt.want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%v: status %d: %s", tt.args, r.status, r.stderr)
		}
	}
}

// TestChunkServerCacheKeepsItEncrypted: what comes encrypted is kept so.
func TestChunkServerCacheKeepsItEncrypted(t *testing.T) {
	d := newDisk(t, 500_000, "--encryption-key-file", keyFile(t, secretKey))
	o := serveDir(t, d.dir, origin.Options{})
	conf, near := filepath.Join(t.TempDir(), "config.json"), d.path("near.castr")
	far := o.URL() + "/default.castr"
	writeConfig(t, conf, map[string]any{far: map[string]any{"encryption": true, "encryption-key": secretKey}})
	_, url := startServer(t, "chunk-server", "--config", conf, "--store", far, "--cache", near)
	if got := must(t, caravel, "cat", "-s", url, d.index); got != string(d.data) {
		t.Error("something else is read")
	}
	files := filesBelow(t, near)
	if len(files) < 5 {
		t.Errorf("%d chunks are kept", len(files))
	}
	for _, f := range files {
		if !strings.HasSuffix(f, ".xchacha20-poly1305-"+keyID) {
			t.Errorf("%s: not encrypted", f)
		}
	}
}
