package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/storetest"
)

func TestFailover(t *testing.T) {
	storetest.RunStore(t, store.Form{}, func(t *testing.T, objects map[string][]byte) store.Store {
		dead := holding(t)
		dead.say(store.ErrMissing)
		return store.Failover(store.FailoverOptions{}, dead, store.Chunks(storetest.NewMemory(objects), store.Form{}))
	})
}

func TestFailoverStays(t *testing.T) {
	plain := storetest.Plains()[1]
	a, b := holding(t, plain), holding(t, plain)
	f := store.Failover(store.FailoverOptions{}, a, b)
	ask := func(wantA, wantB int) {
		t.Helper()
		beforeA, beforeB := a.asked(), b.asked()
		for range 100 {
			gives(t, f, plain)
		}
		if gotA, gotB := a.asked()-beforeA, b.asked()-beforeB; gotA != wantA || gotB != wantB {
			t.Errorf("asked %d and %d times, want %d and %d", gotA, gotB, wantA, wantB)
		}
	}
	ask(100, 0)
	a.say(errDead)
	ask(1, 100)
	a.say(nil)
	ask(0, 100)
	b.say(errDead)
	ask(100, 1)
	a.say(errDead)
	if _, err := f.Get(t.Context(), storetest.Want(plain)); !errors.Is(err, errDead) || errors.Is(err, store.ErrMissing) {
		t.Errorf("both dead: got %v", err)
	}
}

// What one member lacks is taken from another, without leaving the first.
func TestFailoverHeals(t *testing.T) {
	plain, other := storetest.Plains()[1], storetest.Plains()[2]
	for name, first := range map[string]*fake{"missing": holding(t, other), "corrupt": forging(plain)} {
		t.Run(name, func(t *testing.T) {
			second := holding(t, plain, other)
			f := store.Failover(store.FailoverOptions{}, first, second)
			for range 10 {
				gives(t, f, plain)
			}
			if first.asked() != 10 || second.asked() != 10 {
				t.Errorf("asked %d and %d times, want 10 and 10", first.asked(), second.asked())
			}
		})
	}
}

// late answers once it is told to, whoever has left meanwhile.
type late struct {
	store.Store
	now chan struct{}
}

func (l late) Get(_ context.Context, want store.Want) (*store.Chunk, error) {
	<-l.now
	return l.Store.Get(context.Background(), want)
}

// Who waits for a store that is silent gets the chunk from another after a while; then
// so do all who wait, and nobody asks the silent one first any more.
func TestFailoverPatience(t *testing.T) {
	plain := storetest.Plains()[1]
	good := holding(t, plain)
	synctest.Test(t, func(t *testing.T) {
		const patience = 3 * time.Second
		silent := late{holding(t, plain), make(chan struct{})}
		f := store.Failover(store.FailoverOptions{Patience: patience}, silent, good)
		began := time.Now()
		took := func(class store.Class) time.Duration {
			want := storetest.Want(plain)
			want.Class = class
			c, err := f.Get(t.Context(), want)
			if err != nil {
				t.Error(err)
				return 0
			}
			c.Release()
			return time.Since(began)
		}
		var all sync.WaitGroup
		for _, class := range []store.Class{store.Sweep, store.ReadAhead, store.Demand} {
			all.Go(func() {
				if d := took(class); d != patience {
					t.Errorf("class %v: took %v, want %v", class, d, patience)
				}
			})
		}
		all.Go(func() { // somebody who has come later
			time.Sleep(patience / 2)
			if d := took(store.Demand); d != patience {
				t.Errorf("later: took %v, want %v", d, patience)
			}
		})
		all.Wait()
		if d := took(store.Demand); d != patience {
			t.Errorf("now: took %v, want %v", d, patience)
		}
		close(silent.now) // what it gives now is nobody's
		synctest.Wait()
	})
}

// What nobody waits for stands in line as long as it takes.
func TestFailoverBackgroundWaits(t *testing.T) {
	plain := storetest.Plains()[1]
	good := holding(t, plain)
	synctest.Test(t, func(t *testing.T) {
		slow := late{holding(t, plain), make(chan struct{})}
		f := store.Failover(store.FailoverOptions{}, slow, good)
		time.AfterFunc(time.Hour, func() { close(slow.now) })
		want := storetest.Want(plain)
		want.Class = store.Sweep
		began, before := time.Now(), good.asked()
		c, err := f.Get(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		c.Release()
		if d := time.Since(began); d != time.Hour || good.asked() != before {
			t.Errorf("took %v, the other store was asked %d times", d, good.asked()-before)
		}
	})
}
