package index_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"caravel/index"
)

// An error of reading is the asker's, and what was there before stays.
func TestRemoteReadErrors(t *testing.T) {
	src := newTable(200_000, dataSize)
	x := newRemote(t, src)
	reset := errors.New("connection reset")
	src.before = func(context.Context, int64) error { return reset }
	for range 2 {
		if _, err := x.Seek(t.Context(), src.total()/2); !errors.Is(err, reset) || !strings.HasPrefix(err.Error(), "index: offset ") {
			t.Errorf("Seek: got %v", err)
		}
		if _, err := x.Row(t.Context(), src.n/2); !errors.Is(err, reset) {
			t.Errorf("Row: got %v", err)
		}
		if _, err := x.Fill(t.Context()); !errors.Is(err, reset) || errors.Is(err, index.ErrSpoilt) {
			t.Errorf("Fill: got %v", err)
		}
		if x.Ready(src.total()/2, 1) || !x.Ready(0, 1) {
			t.Error("ready: what is not there, or not what is")
		}
		if _, err := index.NewRemote(t.Context(), src); !errors.Is(err, reset) {
			t.Errorf("NewRemote: got %v", err)
		}
	}
	src.before = func(_ context.Context, off int64) error {
		if off > 4_000_000 {
			return reset
		}
		return nil
	}
	if _, err := x.Fill(t.Context()); !errors.Is(err, reset) {
		t.Errorf("Fill: got %v", err)
	}
	if !x.Ready(0, 60_000*16384) { // rows, and the least that they have
		t.Error("what Fill has read is not used")
	}
	src.before = func(_ context.Context, off int64) error {
		if off < 3_000_000 {
			t.Errorf("offset %d is read again", off)
		}
		return nil
	}
	whole, err := x.Fill(t.Context())
	if err != nil || whole.Size() != src.total() {
		t.Fatalf("Fill: %v", err)
	}
}

// A reader that gives less than its size is no reason to believe in nothing.
func TestRemoteShortReads(t *testing.T) {
	src := newTable(200_000, dataSize)
	x := newRemote(t, src)
	if _, err := x.Seek(t.Context(), src.total()/2); err != nil {
		t.Fatal(err)
	}
	short := &cut{src, 4_000_000}
	if _, err := index.NewRemote(t.Context(), short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// cut ends before its size says.
type cut struct {
	*table
	end int64
}

func (c *cut) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := c.table.ReadAt(ctx, p, off)
	if most := max(c.end-off, 0); int64(n) > most {
		return int(most), io.EOF
	}
	return n, err
}

func TestRemoteCancelled(t *testing.T) {
	src := newTable(200_000, dataSize)
	x := newRemote(t, src)
	src.before = func(ctx context.Context, _ int64) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := x.Row(ctx, 100_000); !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
				t.Errorf("Row: got %v", err)
			}
		})
		all.Go(func() {
			if _, err := x.Fill(ctx); !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
				t.Errorf("Fill: got %v", err)
			}
		})
	}
	cancel(stop)
	all.Wait()
	src.before = nil
	seek(t, x, src, src.total()/2)
}

// Who waits for a block does not depend on the one who reads it.
func TestRemoteJoin(t *testing.T) {
	src := newTable(200_000, dataSize)
	x := newRemote(t, src)
	src.reads.Store(0)
	reading, hold := make(chan struct{}, 10), make(chan struct{})
	src.before = func(ctx context.Context, _ int64) error {
		reading <- struct{}{}
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	first, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := x.Row(first, 100_000)
		left <- err
	}()
	<-reading
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			c, err := x.Row(t.Context(), 100_000+i)
			if err != nil || int64(c.Size) != dataSize(100_000+i) {
				t.Errorf("got %+v, %v", c, err)
			}
		})
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who has left: %v", err)
	}
	<-reading // one of those who stayed
	close(hold)
	all.Wait()
	if n := src.reads.Load(); n != 2 {
		t.Errorf("%d reads of one block", n)
	}
}
