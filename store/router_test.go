package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/storetest"
)

var errDead = errors.New("dial tcp 192.0.2.1:80: connection refused")

func TestRouter(t *testing.T) {
	stacks := map[string]func(s store.Store) store.Store{
		"one store":           func(s store.Store) store.Store { return store.Router(nil, s) },
		"behind an empty one": func(s store.Store) store.Store { return store.Router(nil, holding(t), s) },
		"before an empty one": func(s store.Store) store.Store { return store.Router(nil, s, holding(t)) },
		"nested": func(s store.Store) store.Store {
			return store.Router(nil, store.Router(nil, holding(t)), store.Router(nil, s))
		},
	}
	for name, stack := range stacks {
		t.Run(name, func(t *testing.T) {
			storetest.RunStore(t, store.Form{}, func(t *testing.T, objects map[string][]byte) store.Store {
				return stack(store.Chunks(storetest.NewMemory(objects), store.Form{}))
			})
		})
	}
}

func TestRouterGoesOn(t *testing.T) {
	plain := storetest.Plains()[2]
	dead, good := holding(t), holding(t, plain)
	dead.say(errDead)
	for name, first := range map[string]*fake{"missing": holding(t), "corrupt": forging(plain), "dead": dead} {
		t.Run(name, func(t *testing.T) { gives(t, store.Router(nil, first, good), plain) })
	}
}

func TestRouterSaysWhatEachSaid(t *testing.T) {
	plain := storetest.Plains()[2]
	want := storetest.Want(plain)
	dead := holding(t)
	dead.say(errDead)

	_, err := store.Router(nil, holding(t), dead, forging(plain)).Get(t.Context(), want)
	if errors.Is(err, store.ErrMissing) || !errors.Is(err, store.ErrCorrupt) || !errors.Is(err, errDead) {
		t.Errorf("%v: must match all but ErrMissing", err)
	}
	text := err.Error()
	for _, part := range []string{"not in memory/", errDead.Error(), "no known compression"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
	if n := strings.Count(text, "chunk "+want.ID.String()); n != 1 || strings.Contains(text, "\n") {
		t.Errorf("%q names the chunk %d times, want once and in one line", text, n)
	}

	for _, s := range []store.Store{store.Router(nil, holding(t), holding(t)), store.Router(nil)} {
		if _, err := s.Get(t.Context(), want); !errors.Is(err, store.ErrMissing) {
			t.Errorf("got %v, want ErrMissing", err)
		}
		if ok, err := s.Has(t.Context(), want); ok || err != nil {
			t.Errorf("Has: %v, %v", ok, err)
		}
	}
	if ok, err := store.Router(nil, holding(t), dead).Has(t.Context(), want); ok || !errors.Is(err, errDead) {
		t.Errorf("Has: %v, %v; want %v", ok, err, errDead)
	}
}

// A dead store costs one connection now and then, not one for every chunk.
func TestRouterRemembersDeadStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := storetest.Plains()[1]
		dead, good := holding(t, plain), holding(t, plain)
		r := store.Router(nil, dead, good)
		dead.say(errDead)
		ask := func(times, want int, why string) {
			t.Helper()
			before := dead.asked()
			for range times {
				gives(t, r, plain)
			}
			if got := dead.asked() - before; got != want {
				t.Errorf("%s: asked %d times, want %d", why, got, want)
			}
		}
		ask(1000, 1, "died")
		time.Sleep(6 * time.Second)
		ask(1000, 1, "rested 5 s")
		time.Sleep(6 * time.Second)
		ask(1000, 0, "rests 10 s now")
		time.Sleep(time.Hour)
		ask(1000, 1, "rested long enough")

		dead.say(nil)
		time.Sleep(2 * time.Minute)
		ask(1000, 1000, "works again")

		good.say(errDead)
		dead.say(errDead)
		if _, err := r.Get(t.Context(), storetest.Want(plain)); !errors.Is(err, errDead) {
			t.Errorf("both dead: got %v", err)
		}
		good.say(nil)
		dead.say(nil)
		ask(1, 1, "both rest: nevertheless asked, in order")
	})
}

func TestRouterHonoursBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := storetest.Plains()[1]
		busy, good := holding(t, plain), holding(t, plain)
		r := store.Router(nil, busy, good)
		busy.say(&store.BusyError{After: 20 * time.Second, Err: errors.New("429 Too Many Requests")})
		gives(t, r, plain)
		time.Sleep(19 * time.Second)
		gives(t, r, plain)
		if got := busy.asked(); got != 1 {
			t.Errorf("asked %d times within 20 s, want once", got)
		}
		time.Sleep(2 * time.Second)
		gives(t, r, plain)
		if got := busy.asked(); got != 2 {
			t.Errorf("asked %d times after 21 s, want twice", got)
		}
	})
}

// waiting answers nobody before his context ends.
type waiting struct{ store.Store }

func (waiting) Get(ctx context.Context, _ store.Want) (*store.Chunk, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestRouterCancelled(t *testing.T) {
	plain := storetest.Plains()[1]
	good := holding(t, plain)
	first := waiting{good}
	for name, open := range map[string]func() store.Store{
		"router":   func() store.Store { return store.Router(nil, first, good) },
		"failover": func() store.Store { return store.Failover(store.FailoverOptions{}, first, good) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				before := good.asked()
				if _, err := s.Get(ctx, storetest.Want(plain)); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want context.Canceled", err)
				}
				if good.asked() != before {
					t.Error("the next store was asked for somebody who has left")
				}
				// A store on which one reader lost all his time is not the
				// first for the next one.
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := s.Get(ctx, storetest.Want(plain)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want context.DeadlineExceeded", err)
				}
				gives(t, s, plain)
			})
		})
	}
}
