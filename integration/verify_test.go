//go:build linux

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/internal/origin"
)

// A verification is what verify prints as JSON.
type verification struct {
	Chunks, Bad, Repaired, OtherKey int64
	Found                           []struct {
		Kind, Name, Error string
		Repaired, Aside   bool
	}
}

// verify verifies a store and expects an exit status.
func verify(t testing.TB, status int, args ...string) (v verification, stderr string) {
	t.Helper()
	r := run(t, caravel, append([]string{"verify", "--json"}, args...)...)
	if r.status != status {
		t.Errorf("verify %q: status %d, want %d; %s", args, r.status, status, r.stderr)
	}
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Errorf("%v in %s", err, r.stdout)
	}
	return v, r.stderr
}

// TestVerifyAndRepair: bad chunks are named, fetched again over the network, or
// put aside; the image can be read again.
func TestVerifyAndRepair(t *testing.T) {
	for name, flags := range map[string][]string{
		"compressed": nil, "plain": {"--compression=none"},
		"encrypted": {"--encryption-key-file", keyFile(t, secretKey)},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t, 500_000, flags...)
			var key []string
			if name == "encrypted" {
				key = flags
			}
			whole := t.TempDir()
			must(t, "cp", "-r", d.store, whole)
			o := serveDir(t, whole, origin.Options{})
			on := append([]string{"-s", d.store}, key...)
			good, _ := verify(t, 0, on...)
			if good.Chunks < 50 || good.Bad != 0 || len(good.Found) != 0 {
				t.Fatalf("%+v", good)
			}
			files := filesBelow(t, d.store)
			spoil(t, files[3])
			spoil(t, files[10])
			if err := os.WriteFile(filepath.Join(d.store, ".tmp-cacnk.77"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			bad, said := verify(t, 1, on...)
			if bad.Bad != 2 || bad.Chunks != good.Chunks-2 || len(bad.Found) != 3 || !strings.Contains(said, files[3]) || !strings.Contains(said, "unfinished: ") {
				t.Errorf("%+v\n%s", bad, said)
			}
			if v, _ := verify(t, 0, append(on, "-r", "-s", o.URL()+"/default.castr")...); v.Repaired != 2 || v.Bad != 0 {
				t.Errorf("%+v", v)
			}
			if r := run(t, caravel, append([]string{"cat", d.index}, key...)...); r.stdout != string(d.data) {
				t.Errorf("something else is read after the repair: status %d, %s", r.status, r.stderr)
			}
			spoil(t, files[5])
			if v, _ := verify(t, 1, append(on, "--repair")...); v.Bad != 1 || len(v.Found) == 0 {
				t.Errorf("%+v", v)
			}
			if v, _ := verify(t, 0, on...); v.Bad != 0 || v.Chunks != good.Chunks-1 {
				t.Errorf("%+v", v)
			}
		})
	}
}

// TestVerifyPeers verifies what desync and casync have made.
func TestVerifyPeers(t *testing.T) {
	d := newDisk(t, 500_000, "--no-store")
	t.Run("casync", func(t *testing.T) {
		need(t, "casync")
		castr := filepath.Join(t.TempDir(), "castr")
		must(t, "casync", "make", "--digest=sha256", "--store="+castr, castr+".caibx", d.image)
		if v, _ := verify(t, 0, "-s", castr); v.Chunks == 0 {
			t.Errorf("%+v", v)
		}
	})
	t.Run("desync", func(t *testing.T) {
		peer, castr := desync(t), t.TempDir()
		must(t, peer, "make", "-s", castr, castr+".caibx", d.image)
		if v, _ := verify(t, 0, "-s", castr, "--digest=sha512-256"); v.Chunks == 0 {
			t.Errorf("%+v", v)
		}
	})
}

// TestCacheCommand copies what a store lacks, over the network.
func TestCacheCommand(t *testing.T) {
	d := newDisk(t, 500_000)
	o := serveDir(t, d.dir, origin.Options{})
	url, dir := o.URL()+"/disk.caibx", t.TempDir()
	key := keyFile(t, secretKey)
	must(t, caravel, "cache", "-c", dir+"/same", url)
	must(t, "diff", "-r", d.store, dir+"/same")
	must(t, caravel, "cache", "-c", dir+"/plain", "--compression=none", url)
	must(t, caravel, "cache", "-s", dir+"/plain", "-c", dir+"/secret", "--target-encryption=aes-256-gcm", "--target-encryption-key-file", key, d.index)
	if got := must(t, caravel, "cat", "--encryption=aes-256-gcm", "--encryption-key-file", key, "-s", dir+"/secret", d.index); got != string(d.data) {
		t.Error("something else is read from the encrypted copy")
	}
	ids := strings.Join(strings.Fields(must(t, caravel, "list-chunks", d.index))[5:], "\n")
	if err := os.WriteFile(dir+"/ids", []byte(ids), 0o644); err != nil {
		t.Fatal(err)
	}
	o.Reset()
	must(t, caravel, "cache", "-c", dir+"/few", "--ignore-chunks", dir+"/ids", url)
	if n := len(filesBelow(t, dir+"/few")); n != 5 || askedOnce(o) != 5 {
		t.Errorf("%d chunks, %d asked for, want 5", n, askedOnce(o))
	}
	must(t, caravel, "cache", "-c", dir+"/none", "--ignore", d.index, url)
	if _, err := os.Stat(dir + "/none"); err == nil {
		t.Error("chunks that are to be ignored were copied")
	}
	if peer := os.Getenv("DESYNC"); peer != "" {
		if err := os.Mkdir(dir+"/desyncs", 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, peer, "cache", "-s", d.store, "-c", dir+"/desyncs", d.index)
		must(t, "diff", "-r", d.store, dir+"/desyncs")
	}
}
