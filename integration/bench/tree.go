//go:build linux

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"caravel/internal/origin"
)

// goRoot is where Go's own tree is, "" if nobody knows.
func goRoot() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// prepareTree packs the tree into www, as a chunked image and as an archive.
func (s *setting) prepareTree() error {
	if s.packed != 0 {
		return nil
	}
	for _, name := range []string{"tree.caidx", "tree.catar"} {
		if out, err := exec.Command(s.bin, "make", s.path("www", name), s.tree).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	st, err := os.Stat(s.path("www", "tree.catar"))
	if err != nil {
		return err
	}
	entries := 0
	err = filepath.WalkDir(s.tree, func(string, fs.DirEntry, error) error {
		entries++
		return nil
	})
	s.packed = st.Size()
	fmt.Printf("tree: %s, %d entries, an archive of %.1f MB; %d counted runs, medians\n", s.tree, entries, float64(s.packed)/1e6, s.runs)
	return err
}

func (s *setting) treeMake() error {
	a, b, c := s.path("ta.castr"), s.path("tb.castr"), s.path("tc.castr")
	work := func(reset func(string) func() error) []contestant {
		return s.peers([]contestant{s.caravel(reset(a), "make", "--store="+a, s.path("a.caidx"), s.tree)},
			contestant{reset: reset(b), args: []string{"make", "--store=" + b, s.path("b.caidx"), s.tree}},
			contestant{reset: reset(c), args: []string{"tar", "-i", "-s", c, s.path("c.caidx"), s.tree}})
	}
	nosync := s.caravel(afresh(a), "make", "--no-sync", "--store="+a, s.path("a.caidx"), s.tree)
	nosync.name = "no sync"
	empty := append(work(func(dir string) func() error { return afresh(dir) }), nosync)
	if err := compete("make a tree, empty store (caravel waits for the disk, the others do not)", s.runs, s.packed, empty...); err != nil {
		return err
	}
	again := work(func(string) func() error { return nil })
	for _, how := range []struct {
		name string
		args []string
	}{{"cache", nil}, {"c, silent", []string{"--no-digest"}}} {
		c := s.caravel(nil, append([]string{"make", "--cache=" + s.path("made"), "--store=" + a, s.path("a.caidx"), s.tree}, how.args...)...)
		c.name = how.name
		again = append(again, c)
	}
	if s.casync != "" {
		again = append(again, contestant{name: "casync -c", args: []string{s.casync, "make", "--cache=" + s.path("theirs"), "--store=" + b, s.path("b.caidx"), s.tree}})
	}
	return compete("make it again, all chunks present", s.runs, s.packed, again...)
}

func (s *setting) treeArchive() error {
	out := s.path("out.catar")
	nosync := s.caravel(without(out), "make", "--no-sync", out, s.tree)
	nosync.name = "no sync"
	all := s.peers([]contestant{s.caravel(without(out), "make", out, s.tree)},
		contestant{reset: without(out), args: []string{"make", out, s.tree}},
		contestant{reset: without(out), args: []string{"tar", out, s.tree}})
	return compete("make an archive (caravel waits for the disk, the others do not)", s.runs, s.packed, append(all, nosync)...)
}

func (s *setting) treeExtract() error {
	st, x, out := s.path("www", "default.castr"), s.path("www", "tree.caidx"), s.path("out")
	// desync wants the folder to be there, and does not know all of casync's
	// records: it reads what it made.
	theirs := s.path("theirs.caidx")
	if s.desync != "" {
		if b, err := exec.Command(s.desync, "tar", "-i", "-s", st, theirs, s.tree).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, b)
		}
	}
	all := s.peers([]contestant{s.caravel(aside(out), "extract", "--store="+st, x, out)},
		contestant{reset: aside(out), args: []string{"extract", "--store=" + st, x, out}},
		contestant{reset: afresh(out), args: []string{"untar", "-i", "-s", st, theirs, out}})
	nosync := s.caravel(aside(out), "extract", "--no-sync", "--store="+st, x, out)
	nosync.name = "no sync"
	return compete("extract a tree, local store (caravel waits for the disk, the others do not)", s.runs, s.packed, append(all, nosync)...)
}

func (s *setting) treeList() error {
	st, x, archive := s.path("www", "default.castr"), s.path("www", "tree.caidx"), s.path("www", "tree.catar")
	for _, c := range []struct {
		title string
		args  []string
	}{
		{"list an archive", []string{"list", archive}},
		{"list an image, local store", []string{"list", "--store=" + st, x}},
		{"mtree of an archive", []string{"mtree", archive}},
		{"mtree of an image, local store", []string{"mtree", "--store=" + st, x}},
		{"digest of a directory", []string{"digest", s.tree}},
	} {
		all := []contestant{s.caravel(nil, c.args...)}
		if s.casync != "" {
			all = append(all, contestant{name: "casync", args: append([]string{s.casync}, c.args...)})
		}
		if s.desync != "" && c.args[0] == "mtree" && len(c.args) == 2 {
			theirs := s.path("theirs.catar")
			if b, err := exec.Command(s.desync, "tar", theirs, s.tree).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, b)
			}
			all = append(all, contestant{name: "desync", args: []string{s.desync, "mtree", theirs}})
		}
		if err := compete(c.title, s.runs, s.packed, all...); err != nil {
			return err
		}
	}
	return nil
}

// treeHTTP reads parts of the image over a line of 20 ms, cold each time.
func (s *setting) treeHTTP() error {
	o, err := origin.Start(s.path("www"), origin.Options{RTT: 20 * time.Millisecond, Bandwidth: 125e6})
	if err != nil {
		return err
	}
	defer o.Close()
	small, err := smallFile(s.tree)
	if err != nil {
		return err
	}
	part := filepath.Dir(small)
	x := o.URL() + "/tree.caidx"
	fmt.Printf("\ntree over HTTP, 20 ms and 1 Gbit/s away, cold; from the start of the program; a part is %s\n", part)
	programs := []struct{ name, path string }{{"caravel", s.bin}, {"casync", s.casync}}
	for _, p := range programs {
		if p.path == "" {
			continue
		}
		for _, look := range []struct {
			name string
			look func(mnt string) error
		}{
			{"mount, list the root", func(mnt string) error { return isThere(mnt, ".") }},
			{"mount, read one small file", func(mnt string) error { return readAll(mnt, small) }},
			{"mount, ls -lR of a part", func(mnt string) error { return lsAll(mnt, part) }},
		} {
			if err := s.lookMounted(o, p.name, look.name, look.look, p.path, "mount", x); err != nil {
				return err
			}
		}
	}
	for _, c := range []struct {
		name string
		args []string
	}{
		{"stat of one entry", []string{"stat", x, small}},
		{"list of a part", []string{"list", x, part}},
		{"list of all", []string{"list", x}},
		{"extract of a part", []string{"extract", x, s.path("out"), part}},
		{"extract of all", []string{"extract", x, s.path("out")}},
	} {
		for _, p := range programs {
			if p.path == "" {
				continue
			}
			if err := os.RemoveAll(s.path("out")); err != nil {
				return err
			}
			o.Reset()
			took, rss, err := timed(append([]string{p.path}, c.args...))
			s.looked(o, p.name, c.name, took, rss, err)
		}
	}
	return nil
}

// smallFile is some small file deep in the tree, its path relative to it.
func smallFile(tree string) (string, error) {
	found := ""
	err := filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.Count(path, "/")-strings.Count(tree, "/") < 4 {
			return err
		}
		if st, err := e.Info(); err == nil && st.Size() > 500 && st.Size() < 5000 && path > tree+"/src" {
			found = path
			return fs.SkipAll
		}
		return nil
	})
	if err == nil && found == "" {
		err = fmt.Errorf("%s: no small file four levels down", tree)
	}
	if err != nil {
		return "", err
	}
	return filepath.Rel(tree, found)
}

func isThere(mnt, path string) error {
	_, err := os.ReadDir(filepath.Join(mnt, path))
	return err
}

func readAll(mnt, path string) error {
	_, err := os.ReadFile(filepath.Join(mnt, path))
	return err
}

func lsAll(mnt, path string) error {
	return filepath.WalkDir(filepath.Join(mnt, path), func(_ string, e fs.DirEntry, err error) error {
		if err == nil {
			_, err = e.Info()
		}
		return err
	})
}

// lookMounted mounts the image for one look.
func (s *setting) lookMounted(o *origin.Origin, program, name string, look func(mnt string) error, args ...string) error {
	mnt := s.path("mnt")
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return err
	}
	var before syscall.Stat_t
	if err := syscall.Stat(mnt, &before); err != nil {
		return err
	}
	o.Reset()
	began := time.Now()
	cmd := exec.Command(args[0], append(args[1:], mnt)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	err := mounted(mnt, before.Dev)
	if err == nil {
		err = look(mnt)
	}
	took := time.Since(began).Seconds()
	if stopErr := cmd.Process.Signal(syscall.SIGTERM); err == nil {
		err = stopErr
	}
	_ = cmd.Wait() // a peer's status is no figure
	s.looked(o, program, name, took, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss, err)
	return nil
}

// mounted waits until mnt lies on another device.
func mounted(mnt string, before uint64) error {
	for range 30000 {
		var st syscall.Stat_t
		if err := syscall.Stat(mnt, &st); err == nil && st.Dev != before {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("nothing is mounted on %s", mnt)
}

// looked prints one reading; a peer that cannot do it says so.
func (s *setting) looked(o *origin.Origin, program, name string, took float64, rss int64, err error) {
	c := o.Counts()
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Printf("  %-10s %-28s fails: %s\n", program, name, text)
		return
	}
	fmt.Printf("  %-10s %-28s %7.2f s  %5d requests  %6.1f MB  %4d MiB\n", program, name, took, c.Requests, float64(c.Bytes)/1e6, rss>>10)
}
