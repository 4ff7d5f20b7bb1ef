//go:build linux

package fusefs

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
