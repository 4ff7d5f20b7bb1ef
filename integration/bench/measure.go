//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// A contestant is one program doing the case's work.
type contestant struct {
	name  string
	reset func() error // before each run, not timed; nil: nothing
	args  []string
}

// A figure is what one contestant took.
type figure struct {
	seconds []float64
	rss     int64 // most of all runs, in KiB
}

// compete runs the contestants in turn, so that a machine whose speed drifts
// treats them alike, and prints the first one's figures beside the others'.
func compete(title string, runs int, work int64, all ...contestant) error {
	figures := make([]figure, len(all))
	for run := range runs + 1 {
		for i, c := range all {
			if c.reset != nil {
				if err := c.reset(); err != nil {
					return err
				}
			}
			took, rss, err := timed(c.args)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if run > 0 { // the first one warms up
				figures[i].seconds = append(figures[i].seconds, took)
				figures[i].rss = max(figures[i].rss, rss)
			}
		}
	}
	fmt.Printf("\n%s\n", title)
	ours := median(figures[0].seconds)
	for i, c := range all {
		m := median(figures[i].seconds)
		fmt.Printf("  %-10s %7.2f s  (%.2f to %.2f)  %6.0f MB/s  %5d MiB  %.2f× caravel\n", c.name, m,
			slices.Min(figures[i].seconds), slices.Max(figures[i].seconds), float64(work)/1e6/m, figures[i].rss>>10, m/ours)
	}
	return nil
}

func timed(args []string) (seconds float64, rss int64, err error) {
	cmd := exec.Command(args[0], args[1:]...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return time.Since(began).Seconds(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss, nil
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// afresh puts empty folders in the place of those that the last run filled.
// Those are kept until the end: ext4 goes round inodes that were freed in the
// last minutes, which costs the next run several seconds for 10,000 of them.
func afresh(dirs ...string) func() error {
	return func() error {
		for _, d := range dirs {
			if err := setAside(d); err != nil {
				return err
			}
			if err := os.Mkdir(d, 0o755); err != nil {
				return err
			}
		}
		syscall.Sync() // one contestant's dirty pages are not the next one's load
		return nil
	}
}

// aside moves a folder that the last run filled away, and puts none in its place.
func aside(dir string) func() error {
	return func() error {
		err := setAside(dir)
		syscall.Sync()
		return err
	}
}

func setAside(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	old, err := os.MkdirTemp(filepath.Dir(dir), "old")
	if err != nil {
		return err
	}
	return os.Rename(dir, filepath.Join(old, filepath.Base(dir)))
}

// without removes a file before a run.
func without(path string) func() error {
	return func() error {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		syscall.Sync()
		return nil
	}
}
