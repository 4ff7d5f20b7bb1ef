//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// A treeJob is what a program does with all of a mounted tree.
type treeJob struct {
	name       string
	script     string  // run by sh in the tree; $TMP is an empty folder
	warm       float64 // most times ext4's time, warm
	cold       float64 // least times faster than casync's mount, cold; 0: not asked for
	needsGoSrc bool
}

// treeJobs are those of the comparison. tar and grep know /dev/null when they see it, and
// then do not read.
func treeJobs() []treeJob {
	return []treeJob{
		{"find", "find . | cat >/dev/null", 1.5, 3, false},
		{"ls -lR", "ls -lR . | cat >/dev/null", 1.5, 3, false},
		{"du", "du -s . | cat >/dev/null", 1.5, 3, false},
		{"tar", "tar c . | cat >/dev/null", 1.2, 3, false},
		{"grep -r", "grep -r 'nothing has this line' . | cat >/dev/null", 1.2, 3, false},
		{"md5sum, two at once", "find . -type f -print0 | xargs -0 -n 200 -P 2 md5sum >/dev/null", 1.2, 3, false},
		{"go build", `GOROOT=$PWD GOCACHE=$TMP/cache GOPATH=$TMP/path GOTOOLCHAIN=local GOFLAGS= CGO_ENABLED=0 bin/go build -o $TMP/out cmd/gofmt`, 1.15, 0, true},
	}
}

// A treeMount is one of those that show the tree.
type treeMount struct {
	name  string
	mount func() (dir string, end func() error, err error)
}

// treeMounts are caravel, a file system on a loop device with the same files, and
// casync's mount.
func (s *setting) treeMounts() ([]treeMount, error) {
	x := s.path("www", "tree.caidx")
	by := func(args ...string) func() (string, func() error, error) {
		return func() (string, func() error, error) {
			m, err := s.mountBy(args...)
			if err != nil {
				return "", nil, err
			}
			return m.dir, m.end, nil
		}
	}
	all := []treeMount{{"caravel", by(s.bin, "mount", x)}, {"ext4", s.mountExt4}}
	if s.casync != "" {
		all = append(all, treeMount{"casync", by(s.casync, "mount", "--store="+s.path("www", "default.castr"), x)})
	}
	img := s.path("tree.ext4")
	if _, err := os.Stat(img); err == nil {
		return all, nil
	}
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-d", s.tree, img, fmt.Sprint(s.packed*2>>20+64, "M")).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return all, nil
}

func (s *setting) mountExt4() (string, func() error, error) {
	dir := s.path("mnt")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	if out, err := exec.Command("mount", "-o", "loop,ro", s.path("tree.ext4"), dir).CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("mount: %w: %s", err, out)
	}
	return dir, func() error {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			return fmt.Errorf("umount: %w: %s", err, out)
		}
		return nil
	}, nil
}

// mountedTrees has programs read the whole tree where it is mounted: cold, by a new
// mount and with nothing in the page cache, and again.
func (s *setting) mountedTrees() error {
	if os.Geteuid() != 0 {
		fmt.Println("\nnot root: no figures of mounted trees")
		return nil
	}
	mounts, err := s.treeMounts()
	if err != nil {
		return err
	}
	fmt.Printf("\nthe tree, mounted, its store on this disk: cold, then warm, in seconds; in brackets what caravel takes of it\n")
	for _, job := range treeJobs() {
		if _, err := os.Stat(s.tree + "/src/cmd/gofmt"); err != nil && job.needsGoSrc {
			continue
		}
		cold, warm := make([][]float64, len(mounts)), make([][]float64, len(mounts))
		for run := range s.runs {
			for i, m := range mounts {
				if m.name == "casync" && run > 0 { // a peer, which may take a minute
					continue
				}
				a, b, err := s.treeJob(m, job)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", m.name, job.name, err)
				}
				cold[i], warm[i] = append(cold[i], a), append(warm[i], b)
			}
		}
		job.print(mounts, cold, warm)
	}
	return nil
}

// treeJob does the work twice in a new mount.
func (s *setting) treeJob(m treeMount, job treeJob) (cold, warm float64, err error) {
	if err := dropPages(); err != nil {
		return 0, 0, err
	}
	dir, end, err := m.mount()
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, end()) }()
	for _, took := range []*float64{&cold, &warm} {
		tmp, tmpErr := os.MkdirTemp(s.dir, "job")
		if tmpErr != nil {
			return 0, 0, tmpErr
		}
		script := fmt.Sprintf("cd %s && TMP=%s && export TMP && { %s; }; test $? -le 1", dir, tmp, job.script) // grep finds nothing
		*took, _, err = timed([]string{"sh", "-c", script})
		if err = errors.Join(err, os.RemoveAll(tmp)); err != nil {
			return 0, 0, err
		}
	}
	return cold, warm, nil
}

// print prints a row for each mount.
func (j treeJob) print(mounts []treeMount, cold, warm [][]float64) {
	ours, again := median(cold[0]), median(warm[0])
	for i, m := range mounts {
		name, goal := j.name+", "+m.name, ""
		switch {
		case m.name == "ext4":
			goal = fmt.Sprintf("warm <= %.2f times", j.warm)
		case m.name == "casync" && j.cold > 0:
			goal = fmt.Sprintf("cold >= %.0f times faster", j.cold)
		}
		a, b := median(cold[i]), median(warm[i])
		row(name, goal, "%8.2f (%5.2f) %8.2f (%5.2f)", a, ours/a, b, again/b)
	}
}

// dropPages empties the page cache.
func dropPages() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// prepareMillion makes the index of a tree of a million files; see million.
func (s *setting) prepareMillion() error {
	if _, err := os.Stat(s.path("www", "million.caidx")); err == nil {
		return nil
	}
	dir := s.path("million")
	defer os.RemoveAll(dir)
	for i := range 1000 {
		sub := fmt.Sprintf("%s/directory-%04d", dir, i)
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for j := range 1000 {
			if err := syscall.Mknod(fmt.Sprintf("%s/some-file-%03d", sub, j), syscall.S_IFREG|0o644, 0); err != nil {
				return err
			}
		}
	}
	if out, err := exec.Command(s.bin, "make", s.path("www", "million.caidx"), dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// million mounts a tree of a million files by its sidecar and has find see all of it.
func (s *setting) million() error {
	fmt.Printf("\na tree of 1,000,000 files in directories of 1000, its sidecar on this disk\n")
	var mounts, finds []float64
	var each int64
	for range s.runs {
		m, err := s.mountBy(s.bin, "mount", "--memory=1M", s.path("www", "million.caidx"))
		if err != nil {
			return err
		}
		took, _, err := timed([]string{"ls", m.dir})
		mounts = append(mounts, time.Since(m.began).Seconds())
		if err == nil {
			took, _, err = timed([]string{"find", m.dir, "-size", "1"})
		}
		finds = append(finds, took)
		each = residentMemory(m.cmd.Process.Pid) / 1_001_001
		if err := errors.Join(err, m.end()); err != nil {
			return err
		}
	}
	row("mount, list the root", "<= 3 s", "%6.2f s", median(mounts))
	row("find", "", "%6.2f s", median(finds))
	row("memory after that, bytes an entry, all of it", "<= 250", "%6d", each)
	return nil
}

// residentMemory is what a process has in memory now, in bytes; 0 if nobody knows.
func residentMemory(pid int) int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := bytes.Fields(statm)
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
