package restore_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar/restore"
	"caravel/feature"
)

// A stage is a directory with a target in it and things around the target that
// must not change.
type stage struct {
	dir, dst string
	before   string
}

func newStage(t testing.TB) *stage {
	t.Helper()
	dir := tempDir(t)
	s := &stage{dir: dir, dst: filepath.Join(dir, "target")}
	for _, err := range []error{
		os.Mkdir(dir+"/outside", 0o755),
		os.Mkdir(dir+"/outside/dir", 0o755),
		os.WriteFile(dir+"/outside/file", []byte("precious"), 0o644),
		os.WriteFile(dir+"/outside/dir/file", []byte("precious, too"), 0o600),
		os.Symlink("file", dir+"/outside/link"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.before = manifest(t, dir+"/outside")
	return s
}

// unharmed fails the test if something around the target has changed, or
// something unfinished is in it.
func (s *stage) unharmed(t testing.TB) {
	t.Helper()
	if now := manifest(t, s.dir+"/outside"); now != s.before {
		t.Errorf("the surroundings have changed:\n%s\nnot\n%s", now, s.before)
	}
	list, err := os.ReadDir(s.dir)
	if err != nil || len(list) > 2 {
		t.Errorf("beside the target: %v, %v", list, err)
	}
	if _, err := os.Stat(s.dst); err == nil {
		if found := parts(t, s.dst); found != nil {
			t.Errorf("left behind: %q", found)
		}
	}
}

// TestMalformed restores every archive that is to be refused.
func TestMalformed(t *testing.T) {
	files, err := filepath.Glob("../testdata/malformed/*.catar")
	if err != nil || len(files) < 70 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	good := map[string]bool{"good": true, "empty-dir": true, "fifo-directly-followed": true, "xattr-ok": true, "depth-62": true,
		"depth-63": true, "acl-ok": true, "default-ok": true}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".catar")
		t.Run(name, func(t *testing.T) {
			packed, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := newStage(t)
			_, err = extract(t, packed, s.dst, restore.Options{Mask: feature.All &^ feature.Privileged})
			if good[name] != (err == nil) {
				t.Errorf("got %v", err)
			}
			if err != nil {
				wants(t, err, "catar: ")
			}
			s.unharmed(t)
		})
	}
}

// renamed puts another name of the same length into an archive.
func renamed(packed []byte, from, to string) []byte {
	return bytes.Replace(packed, []byte(from+"\x00"), []byte(to+"\x00"), 1)
}

func TestNamesThatLeadOut(t *testing.T) {
	for from, to := range map[string]string{
		"xx": "..", "xxxxxxxxxx": "../outside", "xxxx": "/tmp", "xxx": "a/b", "x": ".",
		"xxxxxx": "a\x00b\x00/c", "xxxxxxxx": "../../..",
	} {
		s := newStage(t)
		packed := renamed(archive(t, plain, folder("a", node{name: from, body: "evil"})), from, to)
		_, err := extract(t, packed, s.dst, restore.Options{})
		wants(t, err, "catar: offset ")
		s.unharmed(t)
	}
	s := newStage(t)
	_, err := extract(t, renamed(archive(t, plain, folder("a"), node{name: "b"}), "b", "a"), s.dst, restore.Options{})
	wants(t, err, `"a" comes twice`)
	s.unharmed(t)
}

// TestLinkFirst has an archive make links and then go through them, in one run
// and in two.
func TestLinkFirst(t *testing.T) {
	s := newStage(t)
	out := s.dir + "/outside"
	_, err := extract(t, renamed(archive(t, plain, link("QA", out), folder("QB", node{name: "file", body: "evil"})), "QB", "QA"), s.dst, restore.Options{})
	wants(t, err, `"QA" comes twice`)
	s.unharmed(t)

	for _, target := range []string{out, "../outside", out + "/dir", out + "/file", "/nowhere", "d", "."} {
		s := newStage(t)
		mustExtract(t, archive(t, plain, link("d", target), link("f", s.dir+"/outside/file")), s.dst, restore.Options{})
		if got, err := os.Readlink(s.dst + "/d"); got != target {
			t.Errorf("%q, %v", got, err)
		}
		mustExtract(t, archive(t, plain, folder("d", node{name: "file", body: "evil"}, folder("dir", node{name: "file", body: "evil"})),
			node{name: "f", mode: unix.S_IFREG | 0o777, body: "evil"}), s.dst, restore.Options{Delete: restore.KeepExtra})
		holds(t, s.dst+"/d/file", "evil")
		holds(t, s.dst+"/f", "evil")
		s.unharmed(t)
	}
}

// TestAttacker has somebody exchange the target's directories and files for
// links to the outside, and back, all the time.
func TestAttacker(t *testing.T) {
	s := newStage(t)
	var kids []node
	for i := range 30 {
		kids = append(kids, folder(fmt.Sprintf("d%02d", i), node{name: "file", body: "evil"},
			folder("dir", node{name: "file", body: "evil"}, node{name: "new", body: "evil"}), link("link", "evil"), node{name: "new", body: "evil"}))
	}
	packed := archive(t, plain, kids...)
	// What is right stays, so every other run has something else to write.
	other := bytes.ReplaceAll(packed, []byte("evil"), []byte("vile"))
	mustExtract(t, packed, s.dst, restore.Options{})
	here, err := os.OpenRoot(s.dst) // or the attacker would run into what he lays out
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	stop := make(chan struct{})
	var attack sync.WaitGroup
	attack.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for j, name := range []string{"", "/dir", "/file", "/link", "/dir/file"} {
				at, aside := fmt.Sprintf("d%02d%s", i%30, name), fmt.Sprintf("d%02d aside %d", i%30, j)
				_ = here.Rename(at, aside)
				_ = here.Symlink(s.dir+"/outside"+[]string{"", "/dir", "/file", "/new"}[i%4], at)
				if i%3 == 0 {
					_ = here.Remove(at)
					_ = here.Rename(aside, at)
				}
			}
			// Whatever is being made is exchanged as well.
			in, err := here.OpenFile(fmt.Sprintf("d%02d", i%30), unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
			if err != nil {
				continue
			}
			found, _ := in.Readdirnames(-1)
			for _, name := range found {
				if strings.HasPrefix(name, ".#caravel.") {
					_ = unix.Unlinkat(int(in.Fd()), name, 0)
					_ = unix.Linkat(unix.AT_FDCWD, s.dir+"/outside/link", int(in.Fd()), name, 0)
				}
			}
			in.Close()
		}
	})
	began := time.Now()
	var failed, done int
	for i := range 60 {
		for _, policy := range []restore.Delete{restore.KeepExtra, restore.DeleteExtra} {
			opt := restore.Options{Delete: policy, HardLink: i%4 > 1, UndoImmutable: true}
			if _, err := extract(t, [][]byte{packed, other}[i%2], s.dst, opt); err != nil {
				failed++
			} else {
				done++
			}
		}
		if time.Since(began) > time.Second {
			break
		}
	}
	close(stop)
	attack.Wait()
	t.Logf("%d runs ended well, %d with an error", done, failed)
	if err := os.RemoveAll(s.dst); err != nil {
		t.Fatal(err)
	}
	now := manifest(t, s.dir+"/outside")
	if s.before, now = withoutTimes(s.before), withoutTimes(now); now != s.before {
		t.Errorf("the surroundings have changed:\n%s\nnot\n%s", now, s.before)
	}
}

// withoutTimes takes the times of the link from a manifest, which get another
// ctime by our attacker's linking and nothing else.
func withoutTimes(manifest string) string {
	var kept []string
	for _, l := range strings.Split(manifest, "\n") {
		if f := strings.Fields(l); strings.Contains(l, "/outside/link ") {
			l = strings.Join(append(f[:5], f[6:]...), " ")
		}
		kept = append(kept, l)
	}
	return strings.Join(kept, "\n")
}

// TestDepth: 64 levels are the most; one more is refused.
func TestDepth(t *testing.T) {
	file := func(name string) []byte {
		b, err := os.ReadFile("../testdata/malformed/" + name + ".catar")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	s := newStage(t)
	mustExtract(t, file("depth-63"), s.dst, restore.Options{Mask: plain})
	deepest := 0
	err := filepath.WalkDir(s.dst, func(p string, _ fs.DirEntry, err error) error {
		deepest = max(deepest, strings.Count(strings.TrimPrefix(p, s.dst), "/"))
		return err
	})
	if err != nil || deepest != 63 {
		t.Errorf("%d levels, %v", deepest, err)
	}
	s.unharmed(t)
	s = newStage(t)
	_, err = extract(t, file("depth-64"), s.dst, restore.Options{Mask: plain})
	wants(t, err, "65 levels deep, above 64")
	s.unharmed(t)
}
