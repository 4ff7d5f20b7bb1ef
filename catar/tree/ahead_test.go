package tree_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/catar"
	"caravel/catar/tree"
)

// A counted source counts its reads.
type counted struct {
	catar.Source
	reads atomic.Int64
	first func()          // called with the first one that is counted
	after <-chan struct{} // when it begins to answer; nil: at once
}

func (c *counted) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if c.reads.Add(1) == 1 && c.first != nil {
		c.first()
	}
	if c.after != nil {
		select {
		case <-c.after:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return c.Source.ReadAt(ctx, p, off)
}

// What nobody waits for goes through the source for that: all that Complete
// reads, and of a walk what lies ahead.
func TestAhead(t *testing.T) {
	b := deep(t, 9, 70_000)
	for name, run := range map[string]func(tr *tree.Tree) error{
		"Complete": func(tr *tree.Tree) error { return tr.Complete(t.Context()) },
		"Walk": func(tr *tree.Tree) error {
			for _, err := range tr.Walk(t.Context(), tree.Root, -1) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		for _, sidecar := range []*tree.Sidecar{nil, readSidecar(t, skimmed(t, b), len(b))} {
			src, ahead := &counted{Source: memory(b)}, &counted{Source: memory(b)}
			tr, err := tree.Open(t.Context(), src, int64(len(b)), tree.Options{Ahead: ahead, Sidecar: sidecar})
			if err != nil {
				t.Fatal(err)
			}
			src.reads.Store(0)
			if name == "Walk" && sidecar == nil {
				// What lies ahead is not so near that a walk which is slow never waits.
				asked := make(chan struct{})
				src.first, ahead.after = func() { close(asked) }, asked
			}
			if err := run(tr); err != nil {
				t.Fatal(err)
			}
			demand, background := src.reads.Load(), ahead.reads.Load()
			switch {
			case name == "Walk" && sidecar != nil:
				if demand+background > 0 {
					t.Errorf("%s: %d and %d reads of what is known", name, demand, background)
				}
			case name == "Complete" && (demand > 0 || background == 0):
				t.Errorf("%s: %d reads as if somebody waited, %d others", name, demand, background)
			case name == "Walk" && demand == 0:
				t.Errorf("%s: no reads as if somebody waited, %d others", name, background)
			}
		}
	}
}

// A stuck source never answers.
type stuck struct{ asked chan struct{} }

func (s stuck) ReadAt(ctx context.Context, _ []byte, _ int64) (int, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

// Who joins what the background has begun does not wait as long as that: his
// read takes its place, without one of its slots.
func TestJoinedInHurry(t *testing.T) {
	b := wide(t, 3000)
	for _, inFlight := range []int{1, 64} {
		synctest.Test(t, func(t *testing.T) {
			ahead := stuck{make(chan struct{}, 1)}
			tr, err := tree.Open(t.Context(), memory(b), int64(len(b)), tree.Options{Ahead: ahead, InFlight: inFlight})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- tr.Complete(ctx) }()
			<-ahead.asked
			synctest.Wait()
			for _, path := range []string{"", "d", "e9-dir"} {
				a, err := tr.Find(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tr.Children(t.Context(), a.ID); err != nil {
					t.Error(err)
				}
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			for _, err := range tr.Walk(t.Context(), tree.Root, -1) { // not that either
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Whatever is confirmed on a path is asked for at one time.
func TestConfirmRounds(t *testing.T) {
	b := deep(t, 20, 200_000)
	sidecar := readSidecar(t, skimmed(t, b), len(b))
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(bytes.NewReader(b), int64(len(b)))
		tr, err := tree.Open(t.Context(), o, int64(len(b)), tree.Options{Sidecar: sidecar})
		if err != nil {
			t.Fatal(err)
		}
		a, err := tr.Find(t.Context(), "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/b")
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			what          string
			confirm       func(context.Context, tree.ID) error
			rounds, reads int
		}{
			{"Confirm", tr.Confirm, 1, 1},
			{"again", tr.Confirm, 0, 0},
			{"ConfirmPath", tr.ConfirmPath, 1, 2 * 21},
			{"again", tr.ConfirmPath, 0, 0},
			{"ConfirmAll", func(ctx context.Context, _ tree.ID) error { return tr.ConfirmAll(ctx) }, 0, -1}, // the rest lies beside what was read
			{"again", func(ctx context.Context, _ tree.ID) error { return tr.ConfirmAll(ctx) }, 0, 0},
		} {
			begin, before := time.Now(), o.reads.Load()
			if err := tt.confirm(t.Context(), a.ID); err != nil {
				t.Fatal(err)
			}
			rounds, reads := int(time.Since(begin)/o.delay), int(o.reads.Load()-before)
			if rounds != tt.rounds || tt.reads >= 0 && reads != tt.reads {
				t.Errorf("%s: %d rounds, not %d; %d reads, not %d", tt.what, rounds, tt.rounds, reads, tt.reads)
			}
		}
	})
}

// To compare the sidecar of a whole tree takes a few rounds, and the chunks that
// have metadata.
func TestConfirmAllRounds(t *testing.T) {
	data := distributionBytes(t)
	sidecar := readSidecar(t, skimmed(t, data), len(data))
	needed := metadataChunks(t, bytes.NewReader(data), int64(len(data)))
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(bytes.NewReader(data), int64(len(data)))
		tr, err := tree.Open(t.Context(), o, int64(len(data)), tree.Options{Sidecar: sidecar, Want: o.Want})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := tr.ConfirmAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		rounds := int(time.Since(begin) / o.delay)
		t.Logf("%d entries: %d rounds, %d requests of %d chunks, %d reads", tr.Len(), rounds, o.requests(),
			(int64(len(data))+o.chunk-1)/o.chunk, o.reads.Load())
		if rounds > 16 || o.requests() > needed {
			t.Errorf("%d rounds, %d reads", rounds, o.reads.Load())
		}
	})
}
