package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/internal/origin"
	"caravel/listing"
)

// fed runs the real app with something on its standard input.
func fed(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	status = run(ctx, newApp(stdin, &out, &errs), args)
	return out.String(), errs.String(), status
}

// does runs a command that has to succeed and returns what it prints.
func does(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, status := caravel(t, args...)
	if status != exitDone {
		t.Fatalf("%q: exit status %d, %s", args, status, stderr)
	}
	return stdout
}

// A shop has a small tree as a folder, as a .catar and as a .caidx, here and on
// a web server.
type shop struct {
	dir    string // of everything
	src    string // the tree
	catar  string
	caidx  string
	url    string
	digest string // with the line break
}

func newShop(t *testing.T) *shop {
	t.Helper()
	t.Setenv("CASYNC_STORE", "")
	dir := t.TempDir()
	s := &shop{dir: dir, src: filepath.Join(dir, "src"), catar: filepath.Join(dir, "tree.catar"), caidx: filepath.Join(dir, "tree.caidx")}
	noise := make([]byte, 700_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	s.write(t, "src/a/b/deep", "deep in it\n")
	s.write(t, "src/a/noise", string(noise))
	s.write(t, "src/a/noise 2", string(noise[300_000:]))
	s.write(t, "src/empty", "")
	s.write(t, "src/z\xff", "odd")
	if err := os.Symlink("a/b/deep", filepath.Join(s.src, "link")); err != nil {
		t.Fatal(err)
	}
	s.digest = does(t, "make", "--no-sync", s.caidx, s.src)
	if got := does(t, "make", "--no-sync", s.catar, s.src); got != s.digest {
		t.Fatalf(".catar %s, .caidx %s", got, s.digest)
	}
	web, err := origin.Start(dir, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { web.Close() })
	s.url = web.URL()
	return s
}

func (s *shop) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReadingCommands has every command say the same of the tree wherever it
// is, and of the folder what casync would if it could.
func TestReadingCommands(t *testing.T) {
	s := newShop(t)
	packed, err := os.ReadFile(s.catar)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "a", "/a//b/", "a/b/deep", "a/noise", "link", "z\xff", "nope", "a/noise/x"} {
		for _, command := range []string{"list", "mtree", "stat", "digest", "list --json", "mtree --json", "stat --json", "list --recursive=no"} {
			words := strings.Fields(command)
			want, _, status := caravel(t, append(words, s.catar, path)...)
			for _, from := range []string{s.caidx, s.src, s.url + "/tree.catar", s.url + "/tree.caidx"} {
				got, stderr, gotStatus := caravel(t, append(words, from, path)...)
				got = strings.Replace(got, "  ProjID: 0\n", "", 1) // casync says it of folders only
				if got != want || gotStatus != status {
					t.Errorf("%s %s %q: exit status %d, %s\n%s\nnot %d\n%s", command, from, path, gotStatus, stderr, got, status, want)
				}
			}
			if command == "digest" {
				words = append(words, "--what=archive")
			}
			// A pipe that is no file.
			got, stderr, gotStatus := fed(t.Context(), io.MultiReader(bytes.NewReader(packed)), append(words, "-", path)...)
			if got != want || gotStatus != status {
				t.Errorf("%s - %q: exit status %d, %s\n%s", command, path, gotStatus, stderr, got)
			}
		}
	}
	if got := does(t, "digest", s.src); got != s.digest {
		t.Errorf("digest of the folder: %s, make said %s", got, s.digest)
	}
}

func TestListing(t *testing.T) {
	s := newShop(t)
	want := "drwxr-xr-x .\ndrwxr-xr-x a\ndrwxr-xr-x a/b\n-rw-r--r-- a/b/deep\n-rw-r--r-- a/noise\n-rw-r--r-- a/noise\\0402\n" +
		"-rw-r--r-- empty\nlrwxrwxrwx link\n-rw-r--r-- z\\377\n"
	if got := does(t, "list", s.caidx); got != want {
		t.Errorf("got\n%s", got)
	}
	var e listing.Entry
	if err := json.Unmarshal([]byte(does(t, "stat", "--json", s.caidx, "z\xff")), &e); err != nil {
		t.Fatal(err)
	}
	if string(e.PathBytes) != "z\xff" || *e.Size != 3 || len(e.Digest) != 64 || len(e.Link) != 64 {
		t.Errorf("got %+v", e)
	}
	stdout, stderr, status := caravel(t, "list", s.catar, "nope")
	if status != exitFailed || stdout != "" || !strings.Contains(stderr, s.catar) || !strings.Contains(stderr, `no entry "nope"`) {
		t.Errorf("exit status %d, %s%s", status, stdout, stderr)
	}
}

// TestReadingAPartFetchesThatPart counts what one entry of a tree costs.
func TestReadingAPartFetchesThatPart(t *testing.T) {
	s := newShop(t)
	for _, tt := range []struct {
		from string
		most int64 // bytes
	}{{"tree.caidx", 400_000}, {"tree.catar", 500_000}} {
		web, err := origin.Start(s.dir, origin.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range []string{"stat", "list", "mtree", "digest"} {
			web.Reset()
			does(t, words, web.URL()+"/"+tt.from, "a/b/deep")
			if got := web.Counts(); got.Bytes > tt.most {
				t.Errorf("%s of one entry of %s: %d bytes in %d requests", words, tt.from, got.Bytes, got.Requests)
			}
		}
		web.Close()
	}
}

// sameTree compares two trees by what mtree says of them.
func sameTree(t *testing.T, got, want string, flags ...string) {
	t.Helper()
	g, w := does(t, append([]string{"mtree", got}, flags...)...), does(t, append([]string{"mtree", want}, flags...)...)
	if g != w {
		t.Errorf("%s is\n%s, not\n%s", got, g, w)
	}
}

func TestExtractWhole(t *testing.T) {
	s := newShop(t)
	packed, err := os.ReadFile(s.catar)
	if err != nil {
		t.Fatal(err)
	}
	for i, in := range []string{s.caidx, s.catar, s.url + "/tree.caidx", s.url + "/tree.catar", "-"} {
		out := filepath.Join(s.dir, fmt.Sprint("out", i))
		for range 2 { // onto nothing, and onto itself
			if in == "-" && i > 0 {
				os.RemoveAll(out) // of a pipe nobody knows beforehand what is in it
			}
			if _, stderr, status := fed(t.Context(), bytes.NewReader(packed), "extract", in, out); status != exitDone {
				t.Fatalf("%s: %s", in, stderr)
			}
			sameTree(t, out, s.src)
		}
	}
}

func TestExtractPart(t *testing.T) {
	s := newShop(t)
	for path, name := range map[string]string{"a/b": "b", "/a/noise": "noise", "link": "link"} {
		for _, in := range []string{s.caidx, s.url + "/tree.catar"} {
			out := t.TempDir()
			does(t, "extract", in, out, path)
			st, err := os.Lstat(filepath.Join(out, name))
			want, wantErr := os.Lstat(filepath.Join(s.src, path))
			if err != nil || wantErr != nil || st.Mode() != want.Mode() || !st.ModTime().Equal(want.ModTime()) {
				t.Errorf("%s of %s: %v, %v", path, in, st, err)
			}
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	stdout, stderr, status := caravel(t, "extract", s.caidx, out, "nope")
	if _, err := os.Stat(out); status != exitFailed || stdout != "" || !strings.Contains(stderr, `no entry "nope"`) || !os.IsNotExist(err) {
		t.Errorf("exit status %d, %s, %v", status, stderr, err)
	}
}

// TestExtractExtra is the rule for what the target holds and the tree does not.
func TestExtractExtra(t *testing.T) {
	s := newShop(t)
	for flag, want := range map[string]struct {
		status int
		stays  bool
	}{
		"":             {exitFailed, true},
		"--delete=no":  {exitDone, true},
		"--delete=yes": {exitDone, false},
		"--delete":     {exitDone, false},
	} {
		out := filepath.Join(t.TempDir(), "out")
		does(t, "extract", "--no-sync", s.caidx, out)
		extra := filepath.Join(out, "a", "extra")
		changed := filepath.Join(out, "empty")
		if err := os.WriteFile(extra, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(changed, []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"extract", "--no-sync", s.caidx, out}
		if flag != "" {
			args = append(args, flag)
		}
		_, stderr, status := caravel(t, args...)
		_, err := os.Stat(extra)
		if status != want.status || (err == nil) != want.stays {
			t.Errorf("%q: exit status %d, %s, extra: %v", flag, status, stderr, err)
		}
		now, err := os.ReadFile(changed)
		if err != nil || (len(now) == 0) != (status == exitDone) {
			t.Errorf("%q: the file that differed has %d bytes, %v", flag, len(now), err)
		}
		if status == exitFailed && !strings.Contains(stderr, "--delete=yes") {
			t.Errorf("%q: does not say what to do: %s", flag, stderr)
		}
	}
}

func TestExtractMask(t *testing.T) {
	s := newShop(t)
	out := filepath.Join(t.TempDir(), "out")
	does(t, "extract", "--no-sync", "--without=all", s.caidx, out)
	if _, err := os.Lstat(filepath.Join(out, "link")); err == nil {
		t.Error("there is a link")
	}
	sameTree(t, out, s.src, "--without=all")
}

// TestMakeIntoItself leaves out what make writes, whenever it is there.
func TestMakeIntoItself(t *testing.T) {
	s := newShop(t)
	list := does(t, "list", s.src)
	t.Chdir(s.src)
	for range 2 {
		_, stderr, status := caravel(t, "make", "tree.caidx")
		if status != exitDone || strings.Count(stderr, "left out what make itself writes") != 1 {
			t.Fatalf("exit status %d, %s", status, stderr)
		}
		if got := does(t, "list", "tree.caidx"); got != list {
			t.Errorf("packed\n%s", got)
		}
	}
	for _, made := range []string{"default.castr", "tree.caidx", "tree.caidx.tree"} {
		if err := os.RemoveAll(made); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		does(t, "make", "tree.catar", ".")
		if got := does(t, "list", "tree.catar"); got != list {
			t.Errorf("packed\n%s", got)
		}
	}
}

func TestMakeOfArchive(t *testing.T) {
	s := newShop(t)
	index, err := os.ReadFile(s.caidx)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(s.catar)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{s.catar, s.url + "/tree.catar", "-"} {
		out := filepath.Join(t.TempDir(), "tree.caidx")
		stdout, stderr, status := fed(t.Context(), bytes.NewReader(packed), "make", "--no-sync", out, in)
		got, err := os.ReadFile(out)
		if status != exitDone || stdout != s.digest || err != nil || !bytes.Equal(got, index) {
			t.Errorf("%s: exit status %d, %s%s, another index: %v", in, status, stdout, stderr, err)
		}
	}
	out := filepath.Join(t.TempDir(), "tree.caidx")
	_, stderr, status := fed(t.Context(), bytes.NewReader(packed[:len(packed)-1]), "make", out, "-")
	if _, err := os.Stat(out); status != exitFailed || !strings.Contains(stderr, "-: catar: ") || err == nil {
		t.Errorf("a cut archive: exit status %d, %s", status, stderr)
	}
}

// TestMakeToStdout sends what was asked for to standard output and the digest
// elsewhere.
func TestMakeToStdout(t *testing.T) {
	s := newShop(t)
	packed, err := os.ReadFile(s.catar)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := caravel(t, "make", "-", s.src)
	if status != exitDone || stdout != string(packed) || stderr != s.digest {
		t.Errorf("exit status %d, %d bytes, %s", status, len(stdout), stderr)
	}
	t.Chdir(s.src)
	if stdout, _, status := caravel(t, "make", "--what=archive"); status != exitDone || stdout != string(packed) {
		t.Errorf("of the current folder: exit status %d, %d bytes", status, len(stdout))
	}
}

// TestStdinByItself reads standard input where nothing is named, as casync
// does, and extracts a file on it into a folder that is there.
func TestStdinByItself(t *testing.T) {
	s := newShop(t)
	packed, err := os.Open(s.catar)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	for _, args := range [][]string{{"extract"}, {"extract", "--no-sync", "-"}, {"extract", "-", "."}} {
		t.Chdir(t.TempDir())
		for range 2 { // the second time all of it is there
			if _, err := packed.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if _, stderr, status := fed(t.Context(), packed, args...); status != exitDone {
				t.Errorf("%q: exit status %d, %s", args, status, stderr)
			}
		}
		sameTree(t, ".", s.src)
	}
	want := does(t, "make", "--no-store", "-", s.catar)
	for _, args := range [][]string{{"make", "--no-store"}, {"make", "--no-store", "-"}} {
		file, err := os.Open(s.catar)
		if err != nil {
			t.Fatal(err)
		}
		got, stderr, status := fed(t.Context(), file, args...)
		file.Close()
		if status != exitDone || got != want {
			t.Errorf("%q: exit status %d, %s", args, status, stderr)
		}
	}
}

// TestWhatHelp lists the kinds that a command takes, and does nothing else.
func TestWhatHelp(t *testing.T) {
	for command, want := range map[string]string{
		"make":    "archive\narchive-index\nblob-index\n",
		"extract": "archive\narchive-index\nblob-index\n",
		"mount":   "archive\narchive-index\nblob-index\ndirectory\n",
		"list":    "archive\narchive-index\ndirectory\n",
		"digest":  "archive\narchive-index\nblob\nblob-index\ndirectory\n",
	} {
		if got := does(t, "--what=help", command); got != want {
			t.Errorf("%s: got %q", command, got)
		}
	}
}

// TestUnreadableFolder names the file that is in the way, and no place in an
// archive that does not exist.
func TestUnreadableFolder(t *testing.T) {
	s := newShop(t)
	s.write(t, "src/a/.caexclude", "..\n") // no pattern
	for _, command := range []string{"list", "stat", "digest", "mtree", "make -"} {
		args := append(strings.Fields(command), s.src)
		_, stderr, status := caravel(t, args...)
		if status != exitFailed || !strings.Contains(stderr, "a/.caexclude") || strings.Contains(stderr, "catar: offset") {
			t.Errorf("%s: exit status %d, %s", command, status, stderr)
		}
	}
}

func TestTreeUsage(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(s.src, "empty")
	pin := "--index-digest=" + strings.Repeat("0", 64) + " "
	tests := map[string]string{
		"make":                                               "name what to make the image of",
		"make tree.img " + s.src:                             "ends in .caidx, .catar or .caibx",
		"make --platform=linux/amd64 x.caidx .":              "--platform is for containers' images",
		"make disk.caibx oci:layout":                         "of a container's image a .caidx or a .catar is made",
		"tar tree.catar":                                     "want ARCHIVE and what to pack, not 1",
		"tar --input-format=zip x.catar .":                   "want disk or tar",
		"untar " + s.catar:                                   "want ARCHIVE and where to write it, not 1",
		"untar --no-same-owner " + s.catar + " -":            "said to who unpacks it",
		"make --what=blob x.caibx " + file:                   "want archive, archive-index or blob-index",
		"list a b c":                                         "want TREE and perhaps PATH, not 3",
		"list " + file:                                       "the name does not say what it is",
		"list http://host/latest":                            "the name does not say what it is",
		"stat --what=blob " + file:                           "want archive, archive-index or directory",
		"extract " + s.src:                                   "is a directory, not an image",
		"extract " + s.caidx + " -":                          "takes a directory",
		"mount " + s.caidx:                                   "want IMAGE and DIR, not 1",
		"extract disk.caibx out a/b":                         "holds a disk image",
		"extract -k " + s.caidx + " out":                     "--in-place is for disk images",
		"list " + pin + s.catar:                              "has no index that --index-digest",
		"extract " + pin + s.catar + " out":                  "has no index that --index-digest",
		"stat " + pin + s.src:                                "has no index that --index-digest",
		"digest " + pin + file:                               "has no index that --index-digest",
		"digest disk.img a/b --what=blob":                    "holds no tree",
		"extract --uid-shift=4294967295 " + s.caidx + " out": "beyond 2^32",
	}
	for _, args := range slices.Sorted(maps.Keys(tests)) {
		stdout, stderr, status := caravel(t, strings.Fields(args)...)
		if status != exitUsage || stdout != "" || !strings.Contains(stderr, tests[args]) {
			t.Errorf("%s: exit status %d, %s%s", args, status, stdout, stderr)
		}
	}
	for args, want := range map[string]string{
		"make disk.caibx " + s.src:                  "is a directory, of which a .caidx",
		"make x.caidx " + file:                      "of a disk image a .caibx",
		"make tree.catar " + file:                   "is no tar stream; a .catar is made of one",
		"make tree.catar -":                         "is no tar stream; a .catar is made of one",
		"tar --input-format=disk x.catar " + file:   "is no directory",
		"tar --input-format=tar x.catar " + s.src:   "is a directory, no tar stream",
		"tar --input-format=tar x.catar " + s.catar: "is no tar stream",
		"make x.caidx oci:" + s.src:                 "neither an OCI image layout nor what docker save writes",
		"mkdev " + s.caidx:                          "holds a tree, not a disk image",
		"mount-index " + s.caidx + " mnt":           "holds a tree, not a disk image",
		"list " + s.dir + "/none.caidx":             "not there",
		"list " + s.dir + "/none":                   "no such file",
		"digest " + s.caidx + " link":               "nothing to digest",
	} {
		if _, stderr, status := caravel(t, strings.Fields(args)...); status != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit status %d, %s", args, status, stderr)
		}
	}
}
