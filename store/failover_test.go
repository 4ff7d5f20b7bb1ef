package store_test

import (
	"errors"
	"testing"

	"caravel/store"
	"caravel/store/storetest"
)

func TestFailover(t *testing.T) {
	storetest.RunStore(t, store.Form{}, func(t *testing.T, objects map[string][]byte) store.Store {
		dead := holding(t)
		dead.say(store.ErrMissing)
		return store.Failover(nil, dead, store.Chunks(storetest.NewMemory(objects), store.Form{}))
	})
}

func TestFailoverStays(t *testing.T) {
	plain := storetest.Plains()[1]
	a, b := holding(t, plain), holding(t, plain)
	f := store.Failover(nil, a, b)
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
			f := store.Failover(nil, first, second)
			for range 10 {
				gives(t, f, plain)
			}
			if first.asked() != 10 || second.asked() != 10 {
				t.Errorf("asked %d and %d times, want 10 and 10", first.asked(), second.asked())
			}
		})
	}
}
