package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/store"
)

// TestReportsAreChecked: what cannot be written in the end is no start.
func TestReportsAreChecked(t *testing.T) {
	s := newShop(t)
	none := filepath.Join(s.dir, "none")
	for _, flag := range []string{"--record", "--stats-file"} {
		for path, why := range map[string]string{none + "/x": "no such file or directory", s.dir: "is a directory"} {
			_, stderr, status := caravel(t, "mount", flag+"="+path, s.caidx, filepath.Join(s.dir, "mnt"))
			if status != exitFailed || !strings.HasPrefix(stderr, "caravel: "+flag+": ") || !strings.Contains(stderr, why) {
				t.Errorf("%s=%s: exit status %d, %s", flag, path, status, stderr)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "mnt")); !os.IsNotExist(err) {
		t.Errorf("it was mounted: %v", err)
	}
}

// lazyIn makes the opener of a command with its cache on disk in dir.
func lazyIn(t *testing.T, dir string, change func(o *lazyOptions)) *lazyOpener {
	t.Helper()
	opt := lazyOptions{profile: profileAuto, source: sourceOptions{memory: 64 << 20, disk: diskOptions{dir: dir, size: 1 << 30}}}
	change(&opt)
	from, err := newLazyOpener(streams{err: io.Discard}, opt, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return from
}

// TestConfirmedOnce: what one run has found out or compared of a tree, the next
// one does not read again.
func TestConfirmedOnce(t *testing.T) {
	for name, remove := range map[string]bool{"with a sidecar": false, "with the one of a walk": true} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			if remove {
				if err := os.Remove(s.caidx + treeSuffix); err != nil {
					t.Fatal(err)
				}
			}
			cache := t.TempDir()
			for _, want := range []bool{true, false, false} {
				if got := walked(t, cache, s.url+"/tree.caidx"); got != want {
					t.Errorf("read for its names: %v, want %v", got, want)
				}
			}
			// Another version of the tree: all anew.
			s.write(t, "src/more", "more\n")
			does(t, "make", "--no-sync", s.caidx, s.src)
			if !walked(t, cache, s.url+"/tree.caidx") {
				t.Error("the next version was not compared")
			}
		})
	}
}

// walked completes a tree, and reports whether anything was read for that.
func walked(t *testing.T, cache, location string) bool {
	t.Helper()
	o := lazyIn(t, cache, func(*lazyOptions) {})
	defer o.Close()
	src, err := o.image(t.Context(), location, o.treeReading())
	if err != nil {
		t.Fatal(err)
	}
	a, img := o.indexed(src)
	defer a.Close()
	tree, err := a.Random(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := img().StatsOf(store.Walk)
	if err := o.complete(t.Context(), tree, src); err != nil {
		t.Fatal(err)
	}
	return img().StatsOf(store.Walk) != before
}

// TestStatsAtTheEnd: that an image has become a file is true after it is closed.
func TestStatsAtTheEnd(t *testing.T) {
	s := newShop(t)
	disk := filepath.Join(s.dir, "disk.caibx")
	does(t, "make", "--no-sync", disk, filepath.Join(s.src, "a", "noise"))
	for _, sweep := range []bool{true, false} {
		file := filepath.Join(t.TempDir(), "whole.img")
		o := lazyIn(t, noCache, func(o *lazyOptions) { o.materialize, o.noSweep = file, !sweep })
		img, err := o.open(context.Background(), disk)
		if err != nil {
			t.Fatal(err)
		}
		o.cached[0].work.Wait()
		if err := img.Close(); err != nil {
			t.Error(err)
		}
		s := o.snapshot()
		if got := s.Images[0].Materialised; got == nil || *got != sweep {
			t.Errorf("sweep %v: materialised: %v", sweep, got)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
}
