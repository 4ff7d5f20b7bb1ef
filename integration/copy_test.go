//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/integration/relay"
	"caravel/internal/origin"
)

// copied is what a command that copies chunks prints as JSON.
func copied(t testing.TB, args ...string) (got struct{ Copied, Present, Bytes int64 }) {
	t.Helper()
	if err := json.Unmarshal([]byte(must(t, caravel, append(args, "--json")...)), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestCopy copies images between all kinds of places, with what lies beside them and
// exactly their chunks.
func TestCopy(t *testing.T) {
	d := newDisk(t, 700_000)
	must(t, caravel, "make", "--chunk-size=4K", "--store="+d.store, d.path("other.caibx"), caravel) // chunks that are not d's
	if err := os.WriteFile(d.index+".profile", []byte("whatever it says"), 0o644); err != nil {
		t.Fatal(err)
	}
	shelf, dir := startShelf(t, false)
	here := t.TempDir()
	o := serveDir(t, d.dir, origin.Options{})
	for _, tt := range []struct{ in, out, at string }{
		{d.index, here + "/", here},
		{o.URL() + "/disk.caibx", shelf.url + "/new/", dir + "/new"},
		{shelf.url + "/new/disk.caibx", here + "/again/disk.caibx", here + "/again"},
	} {
		if err := os.MkdirAll(tt.at, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(tt.at, 0o777); err != nil {
			t.Fatal(err)
		}
		got := copied(t, "copy", tt.in, tt.out)
		if n := readBack(t, filepath.Join(tt.at, "default.castr")); got.Copied != int64(n) || n != len(d.chunks(t)) || got.Present != 0 {
			t.Errorf("%s: %+v, and %d chunks are there", tt.out, got, n)
		}
		for _, side := range []string{"", ".profile"} {
			holds(t, filepath.Join(tt.at, "disk.caibx"+side), read(t, d.index+side))
		}
		if again := copied(t, "copy", tt.in, tt.out); again.Copied != 0 || again.Present != got.Copied {
			t.Errorf("again: %+v", again)
		}
	}
	holdsFrom(t, filepath.Join(here, "again", "disk.caibx"), d)

	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	to := filepath.Join(t.TempDir(), "of-another-name.caidx")
	pool := filepath.Join(t.TempDir(), "pool.castr")
	must(t, caravel, "copy", "--target-store="+pool, p.index, to)
	holds(t, to+".tree", read(t, p.index+".tree"))
	if got := must(t, caravel, "digest", "-s", pool, to); strings.TrimSpace(got) != p.digest {
		t.Errorf("the copy has the digest %s, want %s", got, p.digest)
	}
	secret := filepath.Join(t.TempDir(), "secret.caidx")
	must(t, caravel, "copy", "--target-encryption-key-file="+keyFile(t, secretKey), p.index, secret)
	absent(t, secret+".tree") // which is not encrypted

	complaint(t, run(t, caravel, "copy", d.index, filepath.Join(here, "no/such/folder/x.caibx")), "no/such/folder")
	complaint(t, run(t, caravel, "copy", d.path("nothing.caibx"), here+"/"), "nothing.caibx")
	if r := run(t, caravel, "copy", d.index, "-"); r.status != 2 {
		t.Errorf("to standard output: status %d", r.status)
	}
}

// TestChop stores what make would have stored, of an index that came from elsewhere.
func TestChop(t *testing.T) {
	d := newDisk(t, 700_000, "--no-store")
	got := copied(t, "chop", d.index, d.image)
	if n := readBack(t, d.store); got.Copied != int64(n) || n != len(d.chunks(t)) {
		t.Errorf("%+v, and %d chunks are there", got, n)
	}
	holdsFrom(t, d.index, d)
	if again := copied(t, "chop", d.index, d.image); again.Copied != 0 || again.Present != got.Copied {
		t.Errorf("again: %+v", again)
	}
	if ignored := copied(t, "chop", "-s", d.path("empty.castr"), "--ignore="+d.index, d.index, d.image); ignored.Copied+ignored.Present != 0 {
		t.Errorf("with all ignored: %+v", ignored)
	}
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	pool := filepath.Join(t.TempDir(), "pool.castr")
	must(t, caravel, "chop", "-s", pool, p.index, p.archive)
	if got := must(t, caravel, "digest", "-s", pool, p.index); strings.TrimSpace(got) != p.digest {
		t.Errorf("digest %s, want %s", got, p.digest)
	}

	spoilt := bytes.Clone(d.data)
	spoilt[300_000]++
	wrong := filepath.Join(t.TempDir(), "wrong.img")
	if err := os.WriteFile(wrong, spoilt, 0o644); err != nil {
		t.Fatal(err)
	}
	complaint(t, run(t, caravel, "chop", "-s", d.path("empty.castr"), d.index, wrong), "wrong.img at ")
	complaint(t, run(t, caravel, "chop", p.index, p.source), "is a directory")
	if err := os.Truncate(wrong, 1000); err != nil {
		t.Fatal(err)
	}
	complaint(t, run(t, caravel, "chop", d.index, wrong), "wrong.img: 1000 bytes, the image has 700000")
}

// TestCopiesInterrupted ends copies and chops while they write: the status is 1, there is
// no index, and every chunk with a name is good.
func TestCopiesInterrupted(t *testing.T) {
	d := newDisk(t, 4<<20)
	for _, args := range [][]string{
		{"copy", d.index, "URL/x.caibx"},
		{"chop", "-s", "URL/default.castr", d.index, d.image},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			n, dir := startShelf(t, false)
			_, url := n.lined(t, relay.Options{RTT: 10 * time.Millisecond, Up: 500_000})
			mine := make([]string, len(args))
			for i, a := range args {
				mine[i] = strings.Replace(a, "URL", url, 1)
			}
			e := interrupt(t, sig, n.begun(5), mine...)
			if e.status != 1 || e.took > 5*time.Second {
				t.Errorf("%v, %v: status %d after %v: %s", args, sig, e.status, e.took, e.stderr)
			}
			absent(t, filepath.Join(dir, "x.caibx"))
			if some := readBack(t, filepath.Join(dir, "default.castr")); some == 0 || some >= len(d.chunks(t)) {
				t.Errorf("%v, %v: %d chunks", args, sig, some)
			}
			n.stop(syscall.SIGTERM)
		}
	}
}
