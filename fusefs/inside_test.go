//go:build linux

package fusefs

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar/tree"
)

func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life, end := context.WithCancel(context.Background())
		defer end()
		var gone atomic.Bool
		signal := make(chan struct{})
		c := &call{life: life, signal: signal, gone: gone.Load}
		below, cancel := context.WithCancel(c)
		defer cancel()
		if c.Err() != nil || below.Err() != nil {
			t.Error("cancelled at the start")
		}
		close(signal)
		time.Sleep(10 * recheck)
		if c.Err() != nil || below.Err() != nil {
			t.Error("cancelled by a signal")
		}
		gone.Store(true)
		time.Sleep(2 * recheck)
		synctest.Wait()
		if c.Err() == nil || below.Err() == nil {
			t.Error("not cancelled though nobody waits")
		}
	})
}

// Whoever keeps the context of a read that is over finds it cancelled.
func TestCallOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life, end := context.WithCancel(context.Background())
		defer end()
		unused, used := &call{life: life}, &call{life: life}
		done := used.Done()
		unused.finish()
		used.finish()
		<-done
		<-unused.Done()
		if used.Err() == nil || unused.Err() == nil {
			t.Error("not cancelled")
		}
	})
}

func TestCallEndsWithMount(t *testing.T) {
	life, end := context.WithCancel(context.Background())
	c := &call{life: life}
	end()
	<-c.Done()
	if c.Err() == nil {
		t.Error("not cancelled")
	}
}

func TestParseMount(t *testing.T) {
	for line, want := range map[string]mountEntry{
		`36 35 98:0 /r /mnt/a\040b\134c rw,noatime shared:1 - ext3 /dev/root rw`: {unix.Mkdev(98, 0), `/mnt/a b\c`, "ext3"},
		`36 35 0:300 / /mnt ro - fuse.caravel x\040- ro`:                         {unix.Mkdev(0, 300), "/mnt", "fuse.caravel"},
		`36 35 0:31 / /\9x\0 ro - tmpfs`:                                         {unix.Mkdev(0, 31), `/\9x\0`, "tmpfs"},
	} {
		if got, ok := parseMount(line); !ok || got != want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "36 35 98:0 / /mnt", "36 35 98 / /mnt ro - x", "36 - x", "1 2 3:4 / / ro - "} {
		if got, ok := parseMount(line); ok {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// Listings that nobody reads to the end make room for others.
func TestListings(t *testing.T) {
	var l listings
	for dir := range tree.ID(2 * maxListings) {
		l.put(dir, make([]tree.Child, dir))
		l.put(dir, nil) // the second who asked for the same
		if _, ok := l.get(0); !ok {
			t.Fatalf("after %d the first is gone, which is used all the time", dir)
		}
	}
	if len(l.all) != maxListings {
		t.Errorf("%d listings, want %d", len(l.all), maxListings)
	}
	if all, ok := l.get(2*maxListings - 1); !ok || len(all) != 2*maxListings-1 {
		t.Errorf("the last: %d, %v", len(all), ok)
	}
	if _, ok := l.get(1); ok {
		t.Error("one that was not used is still there")
	}
	l.put(1000, make([]tree.Child, 2*maxChildren))
	if _, ok := l.get(1000); !ok || len(l.all) != 1 || l.children != 2*maxChildren {
		t.Errorf("a large one: %v, of %d, %d children", ok, len(l.all), l.children)
	}
	l.drop(1000)
	l.drop(1000)
	if _, ok := l.get(1000); ok || len(l.all) != 0 || l.children != 0 {
		t.Errorf("dropped: %v, %d left, %d children", ok, len(l.all), l.children)
	}
}
