//go:build linux

package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

const badArchives = "../catar/testdata/malformed"

// goodArchives are those among badArchives that have no fault.
var goodArchives = []string{"good", "empty-dir", "fifo-directly-followed", "xattr-ok", "depth-62", "depth-63", "acl-ok", "default-ok"}

// inArchive begins what is said of an archive: where in it.
var inArchive = regexp.MustCompile(`catar(/tree)?: .*offset \d+|offset \d+`)

// TestMalformedArchives gives every command every archive that a correct reader
// refuses. Only stat, which reads the root and no more, may not come across the
// fault.
func TestMalformedArchives(t *testing.T) {
	files, err := filepath.Glob(badArchives + "/*.catar")
	if err != nil || len(files) < 70 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	table := &report{t: t}
	defer table.log()
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".catar")
		good := slices.Contains(goodArchives, name)
		s, made := newStage(t), t.TempDir()
		for _, args := range [][]string{
			{"extract", "--no-sync", "--without=privileged", file, s.target},
			{"list", file}, {"mtree", file}, {"digest", file}, {"stat", file},
			{"make", "--no-sync", made + "/x.caidx", file},
		} {
			got := bounded(t, nil, args...)
			table.add(name, args[0], got)
			switch {
			case good && got.status != 0:
				t.Errorf("%s: %s: status %d: %s", name, args[0], got.status, got.stderr)
			case !good && args[0] != "stat" && got.status != 1:
				t.Errorf("%s: %s takes it", name, args[0])
			case got.status != 0 && !inArchive.MatchString(got.stderr):
				t.Errorf("%s: %s: no place in: %s", name, args[0], got.stderr)
			}
		}
		s.unharmed()
		if !good {
			clean(t, made)
		}
	}
}

// TestMalformedMount mounts the same archives and reads all that shows.
func TestMalformedMount(t *testing.T) {
	needFUSE(t)
	files, err := filepath.Glob(badArchives + "/*.catar")
	if err != nil || len(files) < 70 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	table := &report{t: t}
	defer table.log()
	for i, file := range files {
		if i%times(4, 1) != 0 {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), ".catar")
		s := newStage(t)
		d := start(t, caravel, "mount", file, s.target)
		said := result{}
		select {
		case <-d.lines:
			read, failed := walked(s.target)
			if status := d.stop(syscall.SIGTERM); status != 0 {
				t.Errorf("%s: status %d: %s", name, status, d.stderr)
			}
			said.stderr = fmt.Sprintf("mounted; %d entries read, %d errors", read, failed)
			if slices.Contains(goodArchives, name) && failed > 0 {
				t.Errorf("%s: %s", name, said.stderr)
			}
		case <-d.exited:
			said.status, said.stderr = d.cmd.ProcessState.ExitCode(), d.stderr.String()
			if slices.Contains(goodArchives, name) {
				t.Errorf("%s: %s", name, d.stderr)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: neither mounted nor refused: %s", name, d.stderr)
		}
		table.add(name, "mount", said)
		s.unharmed()
	}
}

// walked reads everything below dir and counts what went well and what did not.
func walked(dir string) (read, failed int) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var f *os.File
			if f, err = os.Open(p); err == nil {
				_, err = io.Copy(io.Discard, io.LimitReader(f, 64<<20))
				f.Close()
			}
		}
		if err != nil {
			failed++
		} else {
			read++
		}
		return nil
	})
	return read, failed
}

// TestHostileTrees extracts archives that are in order and mean harm, into
// targets that somebody has prepared.
func TestHostileTrees(t *testing.T) {
	table := &report{t: t}
	defer table.log()

	t.Run("links", func(t *testing.T) {
		s := newStage(t)
		links := s.put("links.catar", build(t, usual, func(b *builder) {
			b.link("absolute", s.dir+"/outside")
			b.link("dangling", s.dir+"/outside/new")
			b.link("file", s.dir+"/outside/file")
			b.link("up", "../outside/dir")
		}))
		through := s.put("through.catar", build(t, usual, func(b *builder) {
			b.folder("absolute", func(b *builder) {
				b.folder("dir", func(b *builder) { b.file("file", "evil") })
				b.file("file", "evil")
			})
			b.file("dangling", "evil")
			b.file("file", "evil")
			b.folder("up", func(b *builder) { b.file("file", "evil") })
		}))
		for _, args := range [][]string{{"--delete=yes"}, {"--delete=no"}, {}} {
			for i, archive := range []string{links, through, links} {
				got := bounded(t, nil, append([]string{"extract", "--no-sync", archive, s.target}, args...)...)
				table.add("links, then through them, then links again", strings.Join(append([]string{"extract"}, args...), " "), got)
				// What is in the directories then is in no archive, so goes only if it is told to.
				if want := map[bool]int{true: 1}[i == 2 && !slices.Contains(args, "--delete=yes")]; got.status != want {
					t.Errorf("%v, archive %d: %s", args, i, got.stderr)
				}
				s.unharmed()
				if archive == through {
					holds(t, s.target+"/absolute/dir/file", []byte("evil"))
					holds(t, s.target+"/dangling", []byte("evil"))
				}
			}
			if err := os.RemoveAll(s.target); err != nil {
				t.Fatal(err)
			}
		}
	})

	t.Run("extras", func(t *testing.T) {
		s := newStage(t)
		archive := s.put("x.catar", build(t, usual, func(b *builder) { b.file("file", "new") }))
		if err := os.MkdirAll(s.target+"/mine/deep", 0o755); err != nil {
			t.Fatal(err)
		}
		got := bounded(t, nil, "extract", archive, s.target)
		table.add("a target with something else in it", "extract", got)
		complaint(t, got, "holds 2 nodes", `"mine"`, "--delete=yes", "--delete=no")
		absent(t, s.target+"/file")
		s.unharmed()
	})

	t.Run("claims", func(t *testing.T) {
		s := newStage(t)
		packed := build(t, usual, func(b *builder) { b.file("f", "0123456789") })
		binary.LittleEndian.PutUint64(packed[bytes.Index(packed, []byte("0123456789"))-16:], 1<<40)
		archive := s.put("claims.catar", packed)
		for _, args := range [][]string{{"extract", archive, s.target}, {"list", archive}, {"mtree", archive}, {"digest", archive}} {
			got := bounded(t, nil, args...)
			table.add("a file that claims 1 TiB", args[0], got)
			if got.status != 1 {
				t.Errorf("%v: status %d", args, got.status)
			}
		}
		absent(t, s.target+"/f")
		s.unharmed()
	})

	t.Run("place", func(t *testing.T) {
		s := newStage(t)
		archive := s.put("x.catar", build(t, usual, func(b *builder) { b.file("f", "x") }))
		for what, where := range map[string]string{"the target is a file": s.dir + "/outside/file", "its parent is not there": s.dir + "/no/target"} {
			got := bounded(t, nil, "extract", archive, where)
			table.add(what, "extract", got)
			complaint(t, got, where)
		}
		s.unharmed()
	})
}

// TestHostileUser extracts what takes rights as somebody who has none.
func TestHostileUser(t *testing.T) {
	needRoot(t)
	table := &report{t: t}
	defer table.log()
	const unixLike = usual | feature.UID32 | feature.DeviceNodes
	fcaps := []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	const nobody = 65534
	for what, e := range map[string]catar.Entry{
		"owned by root":  {Mode: unix.S_IFREG | 0o644},
		"set-user-id":    {Mode: unix.S_IFREG | 0o4755},
		"set-group-id":   {Mode: unix.S_IFREG | 0o2755, UID: nobody, GID: 5},
		"capabilities":   {Mode: unix.S_IFREG | 0o755, UID: nobody, GID: nobody, FCaps: fcaps},
		"a device":       {Mode: unix.S_IFBLK | 0o666, UID: nobody, GID: nobody, Major: 8},
		"immutable":      {Mode: unix.S_IFREG | 0o644, UID: nobody, GID: nobody, Flags: feature.Immutable},
		"trusted xattrs": {Mode: unix.S_IFREG | 0o644, UID: nobody, GID: nobody, XAttrs: []catar.XAttr{{Name: "trusted.a", Value: []byte("b")}}},
	} {
		s := newStage(t)
		archive := s.put("x.catar", build(t, unixLike|feature.FCaps|feature.Immutable|feature.XAttrs, func(b *builder) {
			b.begin("node", e)
		}))
		if err := os.Mkdir(s.target, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(s.target, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{nil, {"--without=privileged", "--without=xattrs"}} {
			got := runWith(t, func(c *exec.Cmd) {
				c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
				c.Dir = "/"
			}, publicCaravel(t), append([]string{"extract", "--no-sync", archive, s.target}, args...)...)
			table.add(what, strings.Join(append([]string{"extract as nobody"}, args...), " "), got)
			if args == nil {
				complaint(t, got, `"node"`, "--without=")
				absent(t, s.target+"/node")
			} else if got.status != 0 {
				t.Errorf("%s: %s", what, got.stderr)
			}
			if st, err := os.Lstat(s.target + "/node"); err == nil && st.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeDevice) != 0 {
				t.Errorf("%s: %v", what, st.Mode())
			}
			s.unharmed()
		}
	}
}

// publicCaravel is the binary where everybody can run it.
func publicCaravel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "caravel")
	if err := os.WriteFile(path, read(t, caravel), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDirectoryReplaced exchanges a directory for a link to the outside while
// files of it are extracted, at a moment that the stream settles.
func TestDirectoryReplaced(t *testing.T) {
	s := newStage(t)
	pieces := strings.Repeat("0123456789abcdef", 256<<10) // 4 MiB: written block by block
	packed := build(t, usual, func(b *builder) {
		b.folder("dir", func(b *builder) {
			b.file("a", "first")
			b.file("b", pieces)
			b.folder("deep", func(b *builder) { b.file("file", "evil") })
			b.file("file", "evil")
		})
	})
	for _, cut := range []int{400, len(packed) / 2} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		d := startWith(t, func(c *exec.Cmd) { c.Stdin = r }, caravel, "extract", "--no-sync", "--delete=yes", "--what=archive", "-", s.target)
		r.Close()
		if _, err := w.Write(packed[:cut]); err != nil {
			t.Fatalf("%v; %s", err, d.stderr)
		}
		eventually(t, "the directory is there", func() bool {
			st, err := os.Lstat(s.target + "/dir")
			return err == nil && st.IsDir()
		})
		for _, err := range []error{
			os.Rename(s.target+"/dir", s.target+"/aside"),
			os.Symlink(s.dir+"/outside", s.target+"/dir"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		_, _ = w.Write(packed[cut:]) // whether it is read to the end is not the question
		w.Close()
		t.Logf("status %d: %s", d.wait(), d.stderr)
		s.unharmed()
		if err := os.RemoveAll(s.target); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKillExtractTree kills an extraction in the middle of a file. Neither the
// file nor a part of it is there, and the next run ends well.
func TestKillExtractTree(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 256<<10)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
		s := newStage(t)
		packed := build(t, usual, func(b *builder) {
			b.file("a", "first")
			b.folder("dir", func(b *builder) { b.file("long", body) })
		})
		archive := s.put("x.catar", packed)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		d := startWith(t, func(c *exec.Cmd) { c.Stdin = r }, caravel, "extract", "--what=archive", "-", s.target)
		r.Close()
		if _, err := w.Write(packed[:len(packed)/2]); err != nil {
			t.Fatalf("%v; %s", err, d.stderr)
		}
		eventually(t, "the first file is there", func() bool {
			_, err := os.Lstat(s.target + "/a")
			return err == nil
		})
		if err := d.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		status := d.wait()
		w.Close()
		if want := map[syscall.Signal]int{syscall.SIGKILL: -1}[sig]; sig == syscall.SIGKILL && status != want || sig != syscall.SIGKILL && status != 1 {
			t.Errorf("%v: status %d: %s", sig, status, d.stderr)
		}
		holds(t, s.target+"/a", []byte("first"))
		absent(t, s.target+"/dir/long")
		s.unharmed()
		must(t, caravel, "extract", archive, s.target)
		holds(t, s.target+"/dir/long", []byte(body))
		s.unharmed()
	}
}
