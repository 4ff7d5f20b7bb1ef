package claim_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"caravel/internal/claim"
)

func lock(t *testing.T, dir string) *claim.Locked {
	t.Helper()
	l, err := claim.Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestClaim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if all, err := claim.All(dir); len(all) > 0 || err != nil {
		t.Errorf("no folder: %v, %v", all, err)
	}
	l := lock(t, dir)
	want := claim.Record{Link: "/dev/golden", Image: "http://host/x.caibx", Connections: 4}
	c, err := l.Take("nbd0", want)
	if err != nil {
		t.Fatal(err)
	}
	want.PID = os.Getpid()
	if all, err := claim.All(dir); err != nil || len(all) != 1 || all["nbd0"] != (claim.Found{Record: want, Alive: true}) {
		t.Errorf("held: %+v, %v", all, err)
	}
	if err := l.Drop("nbd0"); err != nil {
		t.Error(err)
	}
	if r, err := claim.Find(dir, "nbd0"); err != nil || !r.Alive {
		t.Errorf("dropped while held: %+v, %v", r, err)
	}

	if err := c.Leave(); err != nil {
		t.Fatal(err)
	}
	if r, err := claim.Find(dir, "nbd0"); err != nil || r != (claim.Found{Record: want}) {
		t.Errorf("left: %+v, %v", r, err)
	}
	if c, err = l.Take("nbd0", want); err != nil {
		t.Fatal(err)
	}
	// A device of the same name comes before this process is done with the former.
	next, err := l.Take("nbd0", want)
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
	if err := c.Release(); err != nil {
		t.Error(err)
	}
	if r, err := claim.Find(dir, "nbd0"); err != nil || !r.Alive {
		t.Errorf("the next one's: %+v, %v", r, err)
	}
	if err := next.Release(); err != nil {
		t.Error(err)
	}
	if _, err := claim.Find(dir, "nbd0"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("released: %v", err)
	}
	l = lock(t, dir)
	defer l.Unlock()
	if err := l.Drop("nbd0"); err != nil {
		t.Errorf("nothing to drop: %v", err)
	}
}

// TestLook takes devices while others look at them all the time.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	l := lock(t, dir)
	defer l.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	looking.Go(func() {
		for ctx.Err() == nil {
			if _, err := claim.Find(dir, "nbd1"); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	for range 20 {
		c, err := l.Take("nbd1", claim.Record{})
		if err != nil {
			t.Fatal(err)
		}
		c.Leave()
	}
}

func TestLockWaits(t *testing.T) {
	dir := t.TempDir()
	l := lock(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := claim.Lock(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked twice: %v", err)
	}
	l.Unlock()
	lock(t, dir).Unlock()
}

func TestSpoiltRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nbd0"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := claim.Find(dir, "nbd0"); err == nil {
		t.Errorf("read %+v", r)
	}
	if all, err := claim.All(dir); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
	l := lock(t, dir)
	defer l.Unlock()
	if _, err := l.Take("nbd0", claim.Record{}); err != nil {
		t.Error(err)
	}
}
