//go:build linux

package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"caravel/internal/origin"
)

// A look is what somebody does first with a mounted tree.
type look func(mnt string) error

// lookTimes mounts by args, cold or not, and returns the median seconds from the start
// of the program to the end of the look, with the requests of the last run.
func (s *setting) lookTimes(o *origin.Origin, keep bool, do look, args ...string) (seconds float64, c origin.Counts, err error) {
	var all []float64
	for range s.runsOf(args[0]) {
		if !keep {
			if err := s.cold(); err != nil {
				return 0, c, err
			}
		}
		o.Reset()
		m, err := s.mountBy(args...)
		if err != nil {
			return 0, c, err
		}
		err = do(m.dir)
		all = append(all, time.Since(m.began).Seconds())
		c = o.Counts()
		if endErr := m.end(); err == nil {
			err = endErr
		}
		if err != nil {
			return 0, c, err
		}
	}
	return median(all), c, nil
}

func (s *setting) wanLook() error {
	o, err := s.faraway(gigabit, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	small, err := smallFile(s.tree)
	if err != nil {
		return err
	}
	with, bare := o.URL()+"/tree.caidx", o.URL()+"/bare.caidx"
	root := func(mnt string) error { return isThere(mnt, ".") }
	first := func(mnt string) error { return readAll(mnt, small) }
	all := func(mnt string) error { return lsAll(mnt, ".") }
	mount := func(x string, more ...string) []string {
		return append(append([]string{s.bin, "mount", "--no-sweep"}, more...), x)
	}
	fmt.Printf("\nfrom the start of the program, 20 ms and 1 Gbit/s away, --no-sweep (seconds, requests, MB)\n")
	for _, c := range []struct {
		measure, goal string
		keep          bool // what the run before has cached
		do            look
		args          []string
		peer          []string
	}{
		{"root listed, sidecar", "<= 0.060", false, root, mount(with), nil},
		{"root listed, no sidecar", "<= 0.100", false, root, mount(bare), []string{s.casync, "mount", bare}},
		{"root listed, second time", "<= 0.050, 1 request", true, root, mount(with), nil},
		{"root listed, offline", "<= 0.030, none", true, root, mount(with, "--offline"), nil},
		{"first small file, sidecar", "<= 0.090, 4 requests", false, first, mount(with), nil},
		{"first small file, no sidecar", "<= 0.250, 15 requests", false, first, mount(bare), []string{s.casync, "mount", bare}},
		{"ls -lR of all, sidecar", "<= 0.600, no chunk", false, all, mount(with), nil},
		{"ls -lR of all, no sidecar", "<= 1.500", false, all, mount(bare), nil},
	} {
		if c.keep { // once, so that there is something
			if _, _, err := s.lookTimes(o, true, c.do, mount(with)...); err != nil {
				return err
			}
		}
		took, n, err := s.lookTimes(o, c.keep, c.do, c.args...)
		if err != nil {
			return fmt.Errorf("%s: %w", c.measure, err)
		}
		row(c.measure, c.goal, "%6.3f  %5d  %6.2f", took, n.Requests, float64(n.Bytes)/1e6)
		if c.peer == nil || c.peer[0] == "" {
			continue
		}
		if took, n, err = s.lookTimes(o, false, c.do, c.peer...); err != nil {
			return fmt.Errorf("%s: casync: %w", c.measure, err)
		}
		row("", "casync", "%6.3f  %5d  %6.2f", took, n.Requests, float64(n.Bytes)/1e6)
	}
	if s.casync != "" {
		part := filepath.Join("src", "cmd", "compile")
		took, n, err := s.lookTimes(o, false, func(mnt string) error { return lsAll(mnt, part) }, s.casync, "mount", bare)
		if err != nil {
			return err
		}
		row("ls -lR of "+part, "casync", "%6.3f  %5d  %6.2f", took, n.Requests, float64(n.Bytes)/1e6)
	}
	return s.firstBytes(o, with, bare)
}

// firstBytes opens files that nobody has touched, in a mount that is there.
func (s *setting) firstBytes(o *origin.Origin, with, bare string) error {
	files, err := someFiles(s.tree, 60)
	if err != nil {
		return err
	}
	for _, c := range []struct{ measure, goal, index string }{
		{"first byte of a cold file, sidecar, p50", "<= 0.025", with},
		{"first byte of a cold file, no sidecar, p50", "<= 0.120", bare},
	} {
		var all []float64
		for range s.runs {
			if err := s.cold(); err != nil {
				return err
			}
			m, err := s.mountBy(s.bin, "mount", "--no-sweep", "--metered", c.index)
			if err != nil {
				return err
			}
			for _, f := range files {
				began := time.Now()
				if _, err := readFirst(filepath.Join(m.dir, f), 1); err != nil {
					return err
				}
				all = append(all, time.Since(began).Seconds())
			}
			if err := m.end(); err != nil {
				return err
			}
		}
		slices.Sort(all)
		row(c.measure, c.goal, "%6.3f  (p99 %.3f)", median(all), all[len(all)*99/100])
	}
	return nil
}

// someFiles are the paths of n small files all over a tree, always the same.
func someFiles(tree string, n int) ([]string, error) {
	var all []string
	err := filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if st, err := e.Info(); err == nil && st.Size() > 0 && st.Size() < 64<<10 {
			all = append(all, strings.TrimPrefix(path, tree+"/"))
		}
		return nil
	})
	if err != nil || len(all) < n {
		return nil, fmt.Errorf("%s: %d small files: %w", tree, len(all), err)
	}
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:n], nil
}

// prepareWan packs the tree and the disk, and shows the tree once more without
// what only our make writes beside an index.
func (s *setting) prepareWan() error {
	if err := s.prepareTree(); err != nil {
		return err
	}
	if err := s.prepareDisk(); err != nil {
		return err
	}
	b, err := os.ReadFile(s.path("www", "tree.caidx"))
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("www", "bare.caidx"), b, 0o644)
}
