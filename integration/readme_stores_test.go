//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"caravel/internal/origin"
)

// overSSH runs a line in a folder with what it names: it writes to, or reads from,
// another machine.
func overSSH(check func(t *testing.T, r *readmeReader, here, srv string), here ...string) func(t *testing.T, r *readmeReader, line string) {
	return func(t *testing.T, r *readmeReader, line string) {
		need(t, "casync")
		dir, srv := t.TempDir(), t.TempDir()
		must(t, "cp", "-r", r.www+"/.", srv)
		for _, path := range here {
			must(t, "cp", strings.ReplaceAll(strings.ReplaceAll(path, "www", r.www), "home", r.home), dir)
		}
		r.typed(t, dir, line, "/srv/", srv+"/", "CASYNC_REMOTE_PATH=caravel", "CASYNC_SSH_PATH=ssh CASYNC_REMOTE_PATH=caravel")
		check(t, r, dir, srv)
	}
}

var (
	makeFarAsTyped = overSSH(func(t *testing.T, r *readmeReader, _, srv string) {
		holds(t, filepath.Join(srv, "disk.caibx"), read(t, filepath.Join(r.www, "disk.caibx")))
	}, "home/disk.img")
	extractFarAsTyped = overSSH(func(t *testing.T, r *readmeReader, here, _ string) {
		holds(t, filepath.Join(here, "disk.img"), r.data)
	}, "www/disk.caibx")
)

func mkdevFarAsTyped(t *testing.T, r *readmeReader, line string) {
	needLoop(t)
	need(t, "casync")
	srv := t.TempDir()
	must(t, "cp", "-r", r.www+"/.", srv)
	d, said := r.started(t, line, "/srv/", srv+"/")
	holds(t, strings.TrimPrefix(said, "Attached: "), r.data)
	d.ends(syscall.SIGINT, soon)
}

// cacheAsTyped copies chunks; what the former version has is left out.
func cacheAsTyped(t *testing.T, r *readmeReader, line string) {
	near, stick := t.TempDir(), t.TempDir()
	must(t, "cp", filepath.Join(r.www, "disk.caibx"), filepath.Join(r.www, "v1.caibx"))
	must(t, "cp", filepath.Join(r.www, "disk.caibx"), filepath.Join(r.www, "v2.caibx"))
	t.Cleanup(func() {
		os.Remove(filepath.Join(r.www, "v1.caibx"))
		os.Remove(filepath.Join(r.www, "v2.caibx"))
	})
	dir := t.TempDir()
	must(t, "sh", "-c", "cp "+r.www+"/v?.caibx "+dir+" && ln -s "+r.www+"/default.castr "+dir)
	r.typed(t, dir, line, "/srv/near.castr", near+"/near.castr", "/media/stick", stick)
	if strings.Contains(line, "--ignore") {
		if found, _ := filepath.Glob(stick + "/delta.castr/*/*"); len(found) != 0 {
			t.Errorf("%d chunks of what is there already", len(found))
		}
		return
	}
	got := must(t, caravel, "cat", "--store", near+"/near.castr", filepath.Join(r.www, "disk.caibx"))
	if got != string(r.data) {
		t.Errorf("%d bytes out of the copy", len(got))
	}
}

// copyAsTyped leaves an image that can be used where it is.
func copyAsTyped(t *testing.T, r *readmeReader, line string) {
	stick := t.TempDir()
	r.typed(t, t.TempDir(), line, "/media/stick", stick)
	if got := must(t, caravel, "cat", filepath.Join(stick, "disk.caibx")); got != string(r.data) {
		t.Errorf("%d bytes out of the copy", len(got))
	}
}

// chopAsTyped fills a store of which an index is there.
func chopAsTyped(t *testing.T, r *readmeReader, line string) {
	srv, dir := t.TempDir(), t.TempDir()
	must(t, "cp", filepath.Join(r.www, "disk.caibx"), filepath.Join(r.home, "disk.img"), dir)
	r.typed(t, dir, line, "/srv/", srv+"/")
	if got := must(t, caravel, "cat", "--store", srv+"/default.castr", filepath.Join(dir, "disk.caibx")); got != string(r.data) {
		t.Errorf("%d bytes out of the store", len(got))
	}
}

func verifyIndexAsTyped(t *testing.T, r *readmeReader, line string) {
	dir := t.TempDir()
	must(t, "cp", filepath.Join(r.www, "disk.caibx"), filepath.Join(r.home, "disk.img"), dir)
	r.typed(t, dir, line)
}

// pruneAsTyped leaves what the indexes need.
func pruneAsTyped(t *testing.T, r *readmeReader, line string) {
	srv := t.TempDir()
	must(t, "cp", "-r", r.www+"/.", srv)
	must(t, "find", srv, "-type", "f", "-exec", "touch", "-d", "last week", "{}", "+")
	r.typed(t, t.TempDir(), line, "/srv/default.castr", srv+"/default.castr", " /srv", " "+srv)
	if got := must(t, caravel, "cat", filepath.Join(srv, "disk.caibx")); got != string(r.data) {
		t.Errorf("%d bytes out of what is left", len(got))
	}
}

// verifyAsTyped finds nothing bad; with --repair it mends a chunk.
func verifyAsTyped(t *testing.T, r *readmeReader, line string) {
	srv := t.TempDir()
	must(t, "cp", "-r", filepath.Join(r.www, "default.castr"), srv)
	if strings.Contains(line, "--repair") {
		chunks, err := filepath.Glob(srv + "/default.castr/*/*.cacnk")
		if err != nil || len(chunks) == 0 {
			t.Fatal(err)
		}
		if err := os.Chmod(chunks[0], 0o644); err != nil {
			t.Fatal(err)
		}
		writeFile(t, chunks[0], []byte("damaged"))
	}
	r.typed(t, srv, line, "/srv/default.castr", srv+"/default.castr")
	must(t, caravel, "verify", "-s", srv+"/default.castr")
}

// sealed is where the lines about encrypted chunks are run.
func (r *readmeReader) sealed() string { return filepath.Join(r.home, "sealed") }

func keyAsTyped(t *testing.T, r *readmeReader, line string) {
	if err := os.Mkdir(r.sealed(), 0o755); err != nil {
		t.Fatal(err)
	}
	r.typed(t, r.sealed(), line)
}

func makeSealedAsTyped(t *testing.T, r *readmeReader, line string) {
	must(t, "cp", filepath.Join(r.home, "disk.img"), r.sealed())
	r.typed(t, r.sealed(), line)
	if found, _ := filepath.Glob(r.sealed() + "/default.castr/*/*.cacnk.xchacha20-poly1305-*"); len(found) < 2 {
		t.Errorf("%d encrypted chunks", len(found))
	}
}

func mountSealedAsTyped(t *testing.T, r *readmeReader, line string) {
	needFUSE(t)
	o := serveDir(t, r.sealed(), origin.Options{})
	mnt := t.TempDir()
	d, _ := r.started(t, line, "http://host", o.URL(), "/mnt", mnt, "=key", "="+filepath.Join(r.sealed(), "key"))
	unmountLater(t, mnt)
	holds(t, filepath.Join(mnt, "disk"), r.data)
	d.ends(syscall.SIGINT, soon)
}
