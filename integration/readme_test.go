//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"caravel/feature"
	"caravel/internal/origin"
	"caravel/internal/testtree"
)

// A reader of the README follows it, on a machine on which /srv/www is served
// as http://host.
type readmeReader struct {
	data   []byte // of disk.img
	home   string // where disk.img and tree are
	away   string // the folder on another machine
	www    string // the folder that is served
	host   string // its URL
	origin *origin.Origin
	run    string
	cache  string // in place of the user's
	tools  string // comes first in the PATH
	digest string // what make printed of disk.img
	tree   string // what it printed of tree
}

// A promise is a line of the README, without its comment.
type promise struct {
	line string
	kept func(t *testing.T, r *readmeReader, line string)
}

var promises = []promise{
	{"go run ./cmd/caravel demo", demoAsTyped},
	{"make test", testTarget},
	{"caravel make /srv/www/tree.caidx tree", makeTreeAsTyped},
	{"caravel make /srv/www/disk.caibx disk.img", makeAsTyped},
	{"caravel make https://me:secret@host/images/disk.caibx disk.img", makeThereAsTyped},
	{"caravel mount http://host/tree.caidx /mnt", mountTreeAsTyped},
	{"caravel mount http://host/disk.caibx /mnt", mountAsTyped},
	{"caravel mkdev http://host/disk.caibx", mkdevAsTyped},
	{"caravel mkdev --supervise http://host/disk.caibx /dev/golden", mkdevGoldenAsTyped},
	{"caravel mkdev --list", mkdevGoldenAsTyped},
	{"caravel mkdev --detach /dev/golden", mkdevGoldenAsTyped},
	{"caravel nbd-server --socket /run/disk.sock http://host/disk.caibx", nbdServerAsTyped},
	{"caravel cat --offset 1M --length 4K http://host/disk.caibx", catAsTyped},
	{"caravel extract http://host/tree.caidx copy", extractTreeAsTyped},
	{"caravel extract http://host/tree.caidx part etc/ssh", extractPartAsTyped},
	{"caravel extract http://host/disk.caibx disk.img", extractAsTyped},
	{"caravel extract http://host/disk.caibx /dev/sdX", extractToDeviceAsTyped},
	{"caravel extract http://host/disk.caibx - | ssh host dd of=/dev/sdX", extractToDeviceAsTyped},
	{"caravel make host:/srv/disk.caibx disk.img", makeFarAsTyped},
	{"caravel mkdev ssh://user@host/srv/disk.caibx", mkdevFarAsTyped},
	{"caravel extract --store=host:/srv/default.castr disk.caibx disk.img", extractFarAsTyped},
	{"CASYNC_REMOTE_PATH=caravel casync extract host:/srv/disk.caibx disk.img", extractFarAsTyped},
	{"caravel prepare -s /srv/www/default.castr disk.img > digest", prepareAsTyped},
	{"caravel pull -s http://host/default.castr -o disk.img $(cat digest)", pullAsTyped},
	{"caravel list http://host/tree.caidx etc", listAsTyped},
	{"caravel stat http://host/tree.caidx etc/hosts", statAsTyped},
	{"caravel mtree tree.caidx", mtreeAsTyped},
	{"caravel digest tree.caidx", digestTreeAsTyped},
	{"caravel digest disk.caibx", digestAsTyped},
	{"caravel list-chunks disk.caibx", listChunksAsTyped},
	{"caravel info --more http://host/disk.caibx", infoAsTyped},
	{"caravel diff v1.caidx v2.caidx", diffAsTyped},
	{"caravel help make", helpAsTyped},
	{"caravel mount --cache-size=2G http://host/tree.caidx /mnt", mountTreeAsTyped},
	{"caravel mount --offline http://host/tree.caidx /mnt", mountOfflineAsTyped},
	{"caravel mount --cache-dir=none http://host/tree.caidx /mnt", mountTreeAsTyped},
	{"caravel tree /srv/www/tree.caidx", treeAsTyped},
	{"caravel mount --record=tree.caidx.profile http://host/tree.caidx /mnt", mountTreeAsTyped},
	{"caravel mount --profile=tree.caidx.profile http://host/tree.caidx /mnt", mountTreeAsTyped},
	{"caravel profile show tree.caidx.profile", profileShowAsTyped},
	{"caravel cache -c /srv/near.castr http://host/disk.caibx", cacheAsTyped},
	{"caravel cache --ignore=v1.caibx -c /media/stick/delta.castr v2.caibx", cacheAsTyped},
	{"caravel copy http://host/disk.caibx /media/stick/", copyAsTyped},
	{"caravel chop -s /srv/default.castr disk.caibx disk.img", chopAsTyped},
	{"caravel verify -s /srv/default.castr", verifyAsTyped},
	{"caravel verify --repair -s /srv/default.castr -s http://host/default.castr", verifyAsTyped},
	{"caravel verify-index disk.caibx disk.img", verifyIndexAsTyped},
	{"caravel prune --yes -s /srv/default.castr /srv", pruneAsTyped},
	{`head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > key && chmod 600 key`, keyAsTyped},
	{"caravel make --encryption-key-file=key disk.caibx disk.img", makeSealedAsTyped},
	{"caravel mount --encryption-key-file=key http://host/disk.caibx /mnt", mountSealedAsTyped},
	{"caravel mount --materialize=whole.img http://host/disk.caibx /mnt", materializeAsTyped},
	{"caravel mount --no-sweep http://host/disk.caibx /mnt", mountDiskAsTyped},
	{"caravel mount --stats http://host/tree.caidx /mnt", mountStatsAsTyped},
	{"caravel mount --overlay=/var/lib/golden http://host/tree.caidx /mnt", overlayAsTyped},
	{"caravel mount --overlay=mine -o uid=$(id -u),gid=$(id -g) http://host/tree.caidx tree", overlayAsTyped},
	{"caravel nbd-server --socket /run/all.sock /srv/www", nbdFolderAsTyped},
	{"caravel nbd-server http://host/disk.caibx", nbdUsualPortAsTyped},
	{"systemd-socket-activate -l 127.0.0.1:10809 caravel nbd-server http://host/disk.caibx", nbdActivationAsTyped},
	{"caravel nbd-server --listen 0.0.0.0:10809 --tls-certificates /etc/pki/nbd --tls-required http://host/disk.caibx", nbdTLSAsTyped},
	{"caravel nbd-server --socket /run/vm.sock --overlay vm.overlay http://host/disk.caibx", nbdOverlayAsTyped},
	{"caravel make --without=privileged home.caidx tree", makeWithoutAsTyped},
	{"caravel extract --without=privileged tree.caidx mine", extractWithoutAsTyped},
	{"caravel make tree.catar tree", makeArchiveAsTyped},
	{"caravel make tree.caidx rootfs.tar.gz", makeOfTarAsTyped},
	{"caravel make --platform=linux/arm64 tree.caidx oci:layout:latest", makeOfContainerAsTyped},
	{"caravel untar http://host/tree.caidx - | tar -C copy -x", untarAsTyped},
	{"caravel mount --daemon --supervise http://host/tree.caidx /mnt", mountDaemonAsTyped},
	{"caravel mount -o noexec,umask=027,uid=backup http://host/tree.caidx /mnt", mountWordsAsTyped},
	{"caravel mount --subtree=etc --uid-shift=100000 http://host/tree.caidx /mnt", mountPartAsTyped},
	{"mount -t fuse.caravel -o noexec,cache-size=2G http://host/tree.caidx /mnt", mountHelperAsTyped},
	{"caravel make s3+http://host/images/disk.caibx disk.img", makeBucketAsTyped},
	{"caravel mount s3+http://host/images/disk.caibx /mnt", mountBucketAsTyped},
	{"make install DESTDIR= PREFIX=/usr/local", installAsTyped},
	{"caravel completion bash > /usr/share/bash-completion/completions/caravel", intoFolderAsTyped},
	{"caravel manpage /usr/local/share/man/man1", intoFolderAsTyped},
}

// TestReadme runs each command of the README as it is typed there; only the
// places are others.
func TestReadme(t *testing.T) {
	r := newReadmeReader(t)
	kept := map[string]bool{}
	for line := range strings.Lines(string(read(t, "../README.md"))) {
		typed, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		if !ok {
			continue
		}
		command, _, _ := strings.Cut(typed, " #")
		command = strings.TrimSpace(command)
		known := false
		for _, p := range promises {
			if p.line == command {
				known, kept[command] = true, true
				t.Run(command, func(t *testing.T) { p.kept(t, r, typed) })
			}
		}
		if !known {
			t.Errorf("README.md: no test has %q", command)
		}
	}
	for _, p := range promises {
		if !kept[p.line] {
			t.Errorf("README.md does not have %q any more", p.line)
		}
	}
}

func newReadmeReader(t *testing.T) *readmeReader {
	t.Helper()
	r := &readmeReader{home: t.TempDir(), away: t.TempDir(), www: t.TempDir(), tools: t.TempDir(), cache: t.TempDir(), run: shortDir(t)}
	image := filepath.Join(r.home, "disk.img")
	random(t, image, 1_600_000)
	r.data = read(t, image)
	for path, content := range map[string]string{"etc/hosts": "127.0.0.1 localhost\n", "etc/ssh/config": "Host *\n", "etc/ssh/keys/a": "a", "readme": "one\n"} {
		path = filepath.Join(r.home, "tree", path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	r.origin = serveDir(t, r.www, origin.Options{})
	r.host = r.origin.URL()
	// The other side of ssh is here.
	if err := os.WriteFile(filepath.Join(r.tools, "ssh"), []byte("#!/bin/sh\nshift\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(caravel, filepath.Join(r.tools, "caravel")); err != nil {
		t.Fatal(err)
	}
	return r
}

// shell has the shell run a line in a folder, with more places than it knows
// itself given as pairs of old and new.
func (r *readmeReader) shell(dir, line string, places ...string) (name string, args []string, setup func(*exec.Cmd)) {
	places = append(places, "/srv/www", r.www, "http://host", r.host, "/run/", r.run+"/")
	line = strings.NewReplacer(places...).Replace(line)
	return "sh", []string{"-c", line}, func(cmd *exec.Cmd) {
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+r.tools+":"+os.Getenv("PATH"), "CARAVEL_CACHE_DIR="+r.cache)
	}
}

// typed runs a line that has to succeed and returns what it prints.
func (r *readmeReader) typed(t *testing.T, dir, line string, places ...string) string {
	t.Helper()
	name, args, setup := r.shell(dir, line, places...)
	got := runWith(t, setup, name, args...)
	if got.status != 0 {
		t.Fatalf("%s: status %d\n%s%s", line, got.status, got.stdout, got.stderr)
	}
	return got.stdout
}

// started runs a line in the background until it says something.
func (r *readmeReader) started(t *testing.T, line string, places ...string) (*daemon, string) {
	t.Helper()
	name, args, setup := r.shell(r.away, "exec "+line, places...)
	d := startWith(t, setup, name, args...)
	return d, d.line()
}

var took = regexp.MustCompile(`That took ([0-9.]+) s`)

func demoAsTyped(t *testing.T, r *readmeReader, line string) {
	temp := t.TempDir()
	name, args, setup := r.shell("..", line)
	got := runWith(t, func(cmd *exec.Cmd) {
		setup(cmd)
		cmd.Env = append(cmd.Env, "TMPDIR="+temp, "CGO_ENABLED=0")
	}, name, args...)
	if got.status != 0 || got.stderr != "" {
		t.Fatalf("status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
	for _, want := range []string{"$ caravel make", "$ caravel mount", "$ caravel nbd-server", "$ caravel extract", "right", "Travelled: "} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("does not show %q:\n%s", want, got.stdout)
		}
	}
	if m := took.FindStringSubmatch(got.stdout); m == nil {
		t.Errorf("does not say how long it took:\n%s", got.stdout)
	} else if seconds, err := strconv.ParseFloat(m[1], 64); err != nil || seconds >= 30 {
		t.Errorf("took %s s, %v", m[1], err)
	}
	empty(t, temp)
}

// testTarget does not run this test within itself; it sees that make would.
func testTarget(t *testing.T, r *readmeReader, line string) {
	need(t, "make")
	if got := r.typed(t, "..", strings.Replace(line, "make", "make -n", 1)); !strings.Contains(got, "./integration/...") {
		t.Errorf("would not run the tests, but:\n%s", got)
	}
}

func makeAsTyped(t *testing.T, r *readmeReader, line string) {
	r.digest = r.typed(t, r.home, line)
	if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).MatchString(r.digest) {
		t.Errorf("printed %q", r.digest)
	}
	for _, name := range []string{"disk.caibx", "default.castr"} {
		if _, err := os.Stat(filepath.Join(r.www, name)); err != nil {
			t.Error(err)
		}
	}
}

func makeTreeAsTyped(t *testing.T, r *readmeReader, line string) {
	r.tree = r.typed(t, r.home, line)
	if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).MatchString(r.tree) {
		t.Errorf("printed %q", r.tree)
	}
}

// sameTree compares a folder with the tree, as far as flags say.
func (r *readmeReader) sameTree(t *testing.T, dir, part string, flags feature.Flags) {
	t.Helper()
	diff, err := testtree.Diff(filepath.Join(r.home, "tree", part), dir, flags)
	if err != nil || len(diff) > 0 {
		t.Errorf("%s is not the tree: %v\n%s", dir, err, strings.Join(diff, "\n"))
	}
}

func mountTreeAsTyped(t *testing.T, r *readmeReader, line string) {
	if said := r.mountTree(t, line); said != "" {
		t.Errorf("says %q", said)
	}
}

// mountTree mounts the tree, looks at all of it, and returns what was said.
func (r *readmeReader) mountTree(t *testing.T, line string) string {
	t.Helper()
	needFUSE(t)
	mnt := t.TempDir()
	d, said := r.started(t, line, "/mnt", mnt)
	unmountLater(t, mnt)
	if said != "Mounted: "+mnt {
		t.Errorf("says %q", said)
	}
	r.sameTree(t, mnt, "", feature.Unix)
	d.ends(syscall.SIGINT, soon)
	return d.stderr.String()
}

// overlayAsTyped writes to the tree, and finds it written when it is mounted again.
func overlayAsTyped(t *testing.T, r *readmeReader, line string) {
	needFUSE(t)
	if os.Geteuid() != 0 {
		need(t, "fuse-overlayfs")
	}
	mnt := shortDir(t) // the test is called like the line
	unmountLater(t, mnt)
	places := []string{"/var/lib/golden", filepath.Join(shortDir(t), "golden"), "caidx tree", "caidx " + mnt, "/mnt", mnt}
	for _, want := range []string{"one\n", "written"} {
		d, said := r.started(t, line, places...)
		if said != "Mounted: "+mnt {
			t.Errorf("says %q", said)
		}
		holds(t, mnt+"/readme", []byte(want))
		writeFile(t, mnt+"/readme", []byte("written"))
		d.ends(syscall.SIGINT, soon)
	}
}

func mountOfflineAsTyped(t *testing.T, r *readmeReader, line string) {
	r.origin.Reset()
	mountTreeAsTyped(t, r, line)
	if c := r.origin.Counts(); c.Requests != 0 {
		t.Errorf("asked for %v", c.Paths)
	}
}

func mountStatsAsTyped(t *testing.T, r *readmeReader, line string) {
	if said := r.mountTree(t, line); !strings.Contains(said, "chunks read") || !strings.Contains(said, "cache on disk") {
		t.Errorf("says %q", said)
	}
}

func treeAsTyped(t *testing.T, r *readmeReader, line string) {
	sidecar := filepath.Join(r.www, "tree.caidx.tree")
	made := read(t, sidecar)
	if err := os.Remove(sidecar); err != nil {
		t.Fatal(err)
	}
	r.typed(t, r.away, line)
	holds(t, sidecar, made)
}

func profileShowAsTyped(t *testing.T, r *readmeReader, line string) {
	if got := r.typed(t, r.away, line); !strings.Contains(got, "Chunks: ") {
		t.Errorf("printed\n%s", got)
	}
}

// mountDiskAsTyped mounts the disk image, and reads it.
func mountDiskAsTyped(t *testing.T, r *readmeReader, line string) {
	needFUSE(t)
	mnt := t.TempDir()
	d, _ := r.started(t, line, "/mnt", mnt)
	unmountLater(t, mnt)
	holds(t, mnt+"/disk", r.data)
	d.ends(syscall.SIGINT, soon)
}

func materializeAsTyped(t *testing.T, r *readmeReader, line string) {
	mountDiskAsTyped(t, r, line)
	holds(t, filepath.Join(r.away, "whole.img"), r.data)
}

func extractTreeAsTyped(t *testing.T, r *readmeReader, line string) {
	r.typed(t, r.away, line)
	r.sameTree(t, filepath.Join(r.away, "copy"), "", feature.Best)
}

func extractPartAsTyped(t *testing.T, r *readmeReader, line string) {
	r.typed(t, r.away, line)
	r.sameTree(t, filepath.Join(r.away, "part/ssh"), "etc/ssh", feature.Best)
}

func listAsTyped(t *testing.T, r *readmeReader, line string) {
	const want = "drwxr-xr-x etc\n-rw-r----- etc/hosts\ndrwxr-xr-x etc/ssh\n-rw-r----- etc/ssh/config\ndrwxr-xr-x etc/ssh/keys\n-rw-r----- etc/ssh/keys/a\n"
	if got := r.typed(t, r.away, line); got != want {
		t.Errorf("printed\n%s", got)
	}
}

func statAsTyped(t *testing.T, r *readmeReader, line string) {
	if got := r.typed(t, r.away, line); !strings.Contains(got, "hosts\n") || !strings.Contains(got, "Size: 20") {
		t.Errorf("printed\n%s", got)
	}
}

func mtreeAsTyped(t *testing.T, r *readmeReader, line string) {
	got := r.typed(t, r.www, line)
	if n := strings.Count(got, "\n"); n != 8 || !strings.Contains(got, "etc/hosts type=file mode=0640 size=20 ") {
		t.Errorf("%d lines\n%s", n, got)
	}
}

func digestTreeAsTyped(t *testing.T, r *readmeReader, line string) {
	if got := r.typed(t, r.www, line); got != r.tree {
		t.Errorf("%q is not what make printed, %q", got, r.tree)
	}
}

func makeWithoutAsTyped(t *testing.T, r *readmeReader, line string) {
	r.typed(t, r.home, line)
	if got := must(t, caravel, "mtree", filepath.Join(r.home, "home.caidx")); strings.Contains(got, " uid=") {
		t.Errorf("owners are kept:\n%s", got)
	}
}

func extractWithoutAsTyped(t *testing.T, r *readmeReader, line string) {
	r.typed(t, r.www, line)
	r.sameTree(t, filepath.Join(r.www, "mine"), "", feature.Permissions|feature.NanoTime)
}

func makeArchiveAsTyped(t *testing.T, r *readmeReader, line string) {
	if got := r.typed(t, r.home, line); got != r.tree {
		t.Errorf("%q is not the digest of the image, %q", got, r.tree)
	}
	if got := must(t, caravel, "digest", filepath.Join(r.home, "tree.catar")); got != r.tree {
		t.Errorf("%q is not what make printed, %q", got, r.tree)
	}
}

func makeOfTarAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "tar", "gzip")
	dir := t.TempDir()
	must(t, "tar", "-C", filepath.Join(r.home, "tree"), "--format=pax", "-czf", filepath.Join(dir, "rootfs.tar.gz"), ".")
	if got := r.typed(t, dir, line); got != r.tree {
		t.Errorf("%q is not the digest of the tree, %q", got, r.tree)
	}
}

func makeOfContainerAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "umoci")
	dir := t.TempDir()
	image := filepath.Join(dir, "layout:latest")
	must(t, "umoci", "init", "--layout", filepath.Join(dir, "layout"))
	must(t, "umoci", "new", "--image", image)
	must(t, "umoci", "config", "--os=linux", "--architecture=arm64", "--image", image)
	must(t, "umoci", "insert", "--rootless", "--image", image, filepath.Join(r.home, "tree"), "/tree")
	r.typed(t, dir, line)
	if got := must(t, caravel, "list", filepath.Join(dir, "tree.caidx")); strings.Count(got, "\n") != 9 || !strings.Contains(got, " tree/etc/ssh/keys/a\n") {
		t.Errorf("holds\n%s", got)
	}
}

func untarAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "tar")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "copy"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.typed(t, dir, line)
	r.sameTree(t, filepath.Join(dir, "copy"), "", feature.Unix)
}

func mountAsTyped(t *testing.T, r *readmeReader, line string) {
	needFUSE(t)
	mnt := t.TempDir()
	d, said := r.started(t, line, "/mnt", mnt)
	unmountLater(t, mnt)
	if said != "Mounted: "+mnt {
		t.Errorf("says %q", said)
	}
	_, comment, _ := strings.Cut(line, "# ")
	path, ok := strings.CutSuffix(comment, " is the image")
	if !ok {
		t.Errorf("the comment %q does not say where the image is", comment)
	}
	holds(t, strings.Replace(path, "/mnt", mnt, 1), r.data)
	d.ends(syscall.SIGINT, soon)
}

func mkdevAsTyped(t *testing.T, r *readmeReader, line string) {
	needLoop(t)
	d, said := r.started(t, line)
	_, comment, _ := strings.Cut(line, "# ")
	digits := regexp.MustCompile(`[0-9]+$`) // which one is free is not promised
	want := digits.ReplaceAllString(comment, "")
	if _, err := os.Stat("/sys/module/nbd"); err != nil {
		want = strings.Replace(want, "nbd", "loop", 1)
	}
	if digits.ReplaceAllString(said, "") != want {
		t.Errorf("says %q, not %q", said, comment)
	}
	if got := read(t, strings.TrimPrefix(said, "Attached: ")); !bytes.Equal(got, r.data) {
		t.Errorf("%d bytes that are others", len(got))
	}
	d.ends(syscall.SIGINT, soon)
}

// mkdevGoldenAsTyped attaches a device under a name, and then does what line says.
func mkdevGoldenAsTyped(t *testing.T, r *readmeReader, line string) {
	needLoop(t)
	link := filepath.Join(t.TempDir(), "golden")
	d, said := r.started(t, "caravel mkdev --supervise http://host/disk.caibx /dev/golden", "/dev/golden", link)
	device := strings.TrimPrefix(said, "Attached: ")
	holds(t, link, r.data)
	if strings.Contains(line, "--supervise") {
		d.ends(syscall.SIGINT, soon)
		return
	}
	said = r.typed(t, r.away, line, "/dev/golden", link)
	if strings.Contains(line, "--list") {
		if !strings.Contains(said, device+" ") || !strings.Contains(said, link) {
			t.Errorf("%s is not in the list: %s", device, said)
		}
		d.ends(syscall.SIGINT, soon)
		return
	}
	if status := d.wait(); status != 0 || said != "" {
		t.Errorf("status %d, says %q", status, said)
	}
	absent(t, link)
}

func nbdServerAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "nbdcopy")
	d, _ := r.started(t, line)
	out := filepath.Join(t.TempDir(), "out")
	must(t, "nbdcopy", "nbd+unix:///?socket="+r.run+"/disk.sock", out)
	holds(t, out, r.data)
	d.ends(syscall.SIGINT, soon)
}

func catAsTyped(t *testing.T, r *readmeReader, line string) {
	if got := r.typed(t, r.away, line); got != string(r.data[1<<20:1<<20+4096]) {
		t.Errorf("%d bytes that are others", len(got))
	}
}

func extractAsTyped(t *testing.T, r *readmeReader, line string) {
	r.typed(t, r.away, line)
	holds(t, filepath.Join(r.away, "disk.img"), r.data)
}

func extractToDeviceAsTyped(t *testing.T, r *readmeReader, line string) {
	device, file := loop(t, 2<<20)
	behind := read(t, file)[len(r.data):]
	r.typed(t, r.away, line, "/dev/sdX", device)
	must(t, "sync")
	holds(t, file, append(bytes.Clone(r.data), behind...))
}

func digestAsTyped(t *testing.T, r *readmeReader, line string) {
	if got := r.typed(t, r.www, line); got != r.digest {
		t.Errorf("%q is not what make printed, %q", got, r.digest)
	}
}

func listChunksAsTyped(t *testing.T, r *readmeReader, line string) {
	ids := strings.Fields(r.typed(t, r.www, line))
	for _, id := range ids {
		if _, err := os.Stat(piece{ID: id}.file(filepath.Join(r.www, "default.castr"))); err != nil {
			t.Error(err)
		}
	}
	if len(ids) < 2 {
		t.Errorf("%d chunks", len(ids))
	}
}

func infoAsTyped(t *testing.T, r *readmeReader, line string) {
	got := r.typed(t, r.away, line)
	if want := fmt.Sprintf("%q: %d,", "size", len(r.data)); !strings.Contains(got, want) {
		t.Errorf("%s is not in\n%s", want, got)
	}
}

func diffAsTyped(t *testing.T, r *readmeReader, line string) {
	got := r.typed(t, r.www, line, "v1.caidx", "tree.caidx", "v2.caidx", "tree.caidx")
	if !strings.HasPrefix(got, "To fetch: 0 of ") {
		t.Errorf("printed\n%s", got)
	}
}

func prepareAsTyped(t *testing.T, r *readmeReader, line string) { r.typed(t, r.home, line) }

func pullAsTyped(t *testing.T, r *readmeReader, line string) {
	dir := t.TempDir()
	must(t, "cp", filepath.Join(r.home, "digest"), dir)
	r.typed(t, dir, line)
	holds(t, filepath.Join(dir, "disk.img"), r.data)
}

// helpAsTyped checks for examples in the help of every command.
func helpAsTyped(t *testing.T, r *readmeReader, line string) {
	command := regexp.MustCompile(`(?m)^  ([a-z-]+) {2,}`)
	all := command.FindAllStringSubmatch(must(t, caravel, "help"), -1)
	if len(all) < 10 {
		t.Errorf("help knows %d commands", len(all))
	}
	for _, m := range all {
		help := r.typed(t, r.home, strings.Replace(line, "make", m[1], 1))
		if !strings.Contains(help, "\n  caravel "+m[1]) && !strings.Contains(help, "| caravel "+m[1]) {
			t.Errorf("help %s has no example:\n%s", m[1], help)
		}
	}
}

func installAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "make")
	dest := t.TempDir()
	r.typed(t, "..", line, "DESTDIR=", "DESTDIR="+dest)
	if got := must(t, filepath.Join(dest, "usr/local/bin/caravel"), "version"); !strings.HasPrefix(got, "caravel ") {
		t.Errorf("version: %q", got)
	}
	clean(t, dest, "usr/local/bin/caravel", "sbin/mount.fuse.caravel", "usr/local/lib/udev/rules.d/75-caravel.rules",
		"usr/local/lib/systemd/system/caravel-mkdev@.service", "usr/local/lib/systemd/system/caravel-mount@.service",
		"usr/local/lib/systemd/system/caravel-nbd.service", "usr/local/lib/systemd/system/caravel-nbd.socket",
		"usr/local/lib/systemd/system/caravel-serve.service", "usr/local/lib/systemd/system/caravel-serve.socket")
}

func intoFolderAsTyped(t *testing.T, r *readmeReader, line string) {
	dir := t.TempDir()
	r.typed(t, r.away, line, "/usr/share/bash-completion/completions", dir, "/usr/local/share/man/man1", dir)
	if names, err := os.ReadDir(dir); err != nil || len(names) == 0 {
		t.Errorf("nothing is written: %v", err)
	}
}

// TestDemoKeep leaves what the demo made, in a folder of its own alone.
func TestDemoKeep(t *testing.T) {
	home := t.TempDir()
	in := func(cmd *exec.Cmd) { cmd.Dir = home }
	r := runWith(t, in, caravel, "demo", "--keep", "./demo")
	if r.status != 0 {
		t.Fatalf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	path := func(name string) string { return filepath.Join(home, "demo", name) }
	if !strings.Contains(r.stdout, "caravel mount "+path("www/disk.caibx")) {
		t.Errorf("does not say how to go on:\n%s", r.stdout)
	}
	digest := must(t, caravel, "digest", path("www/disk.caibx"))
	if !strings.Contains(r.stdout, digest) {
		t.Errorf("make did not print %s:\n%s", digest, r.stdout)
	}
	same(t, path("copy.img"), path("disk.img"))
	if got := must(t, caravel, "digest", path("disk.img")); got != digest {
		t.Errorf("disk.img is not what www has")
	}
	before, err := os.Stat(path("disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	complaint(t, runWith(t, in, caravel, "demo", "--keep", "./demo"), path(""), "not empty")
	if after, err := os.Stat(path("disk.img")); err != nil || !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
		t.Errorf("disk.img was touched: %v", err)
	}
}
