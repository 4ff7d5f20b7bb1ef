package storetest

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"caravel/store"
)

// answers has the server say something else than what it is asked for.
func (f *faults) answers(t *testing.T) {
	there := noise(600, 50_000)
	f.plant(t, there)
	f.without(t, "answers/")
	for i, a := range f.Answers {
		t.Run(a.Name, func(t *testing.T) {
			s, new := f.open(t, Way{Address: a.Address}), noise(601+uint64(i), 50_000)
			works(t, s, there, nil)
			undo := a.Give(t)
			promptly(t, a.Name, func() {
				if !a.Writes {
					f.answeredReader(t, a, s, there)
				}
				if !a.Reads {
					answeredWriter(t, a, s, new)
				}
			})
			undo()
			works(t, s, there, new)
		})
	}
}

func (f *faults) answeredReader(t *testing.T, a Answer, s Opened, there []byte) {
	err := said(a, func() error { return get(t.Context(), t, s, there) })
	wantLine(t, "Get", err, s.Where)
	if a.Kind != store.ErrMissing { // of which there is nothing else to say
		wantLine(t, "Get", err, a.Says)
	}
	wantKind(t, "Get", err, a.Kind)
	busy := (*store.BusyError)(nil)
	if asks := errors.As(err, &busy); asks != (a.Busy != 0) || asks && busy.After != max(a.Busy, 0) {
		t.Errorf("Get: %v asks for patience: %v, %+v; want %v", err, asks, busy, a.Busy)
	}
	// What cannot be told is not told: a chunk is not missing because nobody may look.
	ok := false
	err = said(a, func() (err error) { ok, err = s.Has(t.Context(), Want(there)); return err })
	if a.Kind == store.ErrMissing {
		if ok || err != nil {
			t.Errorf("Has: %v, %v", ok, err)
		}
		return
	}
	wantLine(t, "Has", err, s.Where)
	wantKind(t, "Has", err, a.Kind)
}

// said is what a server says: not at once, where there are connections from before it was
// to say so, of which some protocols find that they have ended only when they use them.
func said(a Answer, do func() error) (err error) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		err = do()
		if err == nil || store.Final(err) || strings.Contains(err.Error(), a.Says) {
			break
		}
	}
	return err
}

func answeredWriter(t *testing.T, a Answer, s Opened, new []byte) {
	err := said(a, func() error { return write(t.Context(), s, new) })
	wantLine(t, "Put", err, s.Where, a.Says)
	if a.Kind != store.ErrMissing { // there is nothing to be missed where something is put
		wantKind(t, "Put", err, a.Kind)
	}
}

// refusals open the store with keys that are wrong, and at servers whose certificates are.
func (f *faults) refusals(t *testing.T) {
	plain := noise(700, 1000)
	f.plant(t, plain)
	f.without(t, "refusals/")
	for _, r := range f.Refusals {
		t.Run(r.Name, func(t *testing.T) {
			s := closed(t, r.Open(t))
			promptly(t, r.Name, func() {
				refuses := func(what string, err error, says ...string) {
					wantLine(t, what, err, append(says, s.Where)...)
					wantKind(t, what, err, store.ErrRefused)
					if err != nil && r.Secret != "" && strings.Contains(err.Error(), r.Secret) {
						t.Errorf("%s: %q shows the secret", what, err)
					}
				}
				refuses("Get", get(t.Context(), t, s, plain), r.Says)
				refuses("Put", write(t.Context(), s, noise(701, 1000)), r.Says)
				if _, err := s.Has(t.Context(), Want(plain)); !r.Mute {
					refuses("Has", err) // the answer to which may have no words
				}
			})
		})
	}
}

// disk has a disk that takes nothing: who writes is told, who reads does not mind.
func (f *faults) disk(t *testing.T, spoil func(t testing.TB) (undo func())) {
	there, new := noise(800, 50_000), noise(801+uint64(len(t.Name())), 300_000)
	f.plant(t, there)
	s := f.open(t, Way{})
	undo := spoil(t)
	restored := false
	defer func() {
		if !restored {
			undo()
		}
	}()
	promptly(t, "Put", func() {
		err := write(t.Context(), s, new)
		wantLine(t, "Put", err, s.Where)
		if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Put: %v is of the wrong kind", err)
		}
	})
	if err := get(t.Context(), t, s, there); err != nil {
		t.Errorf("Get: %v", err)
	}
	f.wantRight(t)
	undo()
	restored = true
	works(t, s, there, new)
}

// killed kills the server in the middle of puts: all that it has acknowledged is there
// when it is again, and all that has a name is right.
func (f *faults) killed(t *testing.T) {
	const writers = 4
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards acknowledged
		some  = make(chan struct{}, 1000)
		acked [][]byte
		dead  = make(chan struct{})
	)
	stores := make([]Opened, writers)
	for i := range writers {
		stores[i] = f.open(t, Way{})
		wg.Go(func() {
			for n := uint64(0); n < 200; n++ {
				plain := noise(1000*uint64(i+1)+n, 300_000)
				if err := write(t.Context(), stores[i], plain); err != nil {
					select {
					case <-dead:
						wantPassing(t, "Put to who dies", err, stores[i].Where)
					default:
						t.Errorf("Put: %v", err)
					}
					return
				}
				mu.Lock()
				acked = append(acked, plain)
				mu.Unlock()
				some <- struct{}{}
			}
			t.Error("the server lives")
		})
	}
	for range 3 * writers {
		select {
		case <-some:
		case <-time.After(time.Minute):
			t.Fatal("nothing is put")
		}
	}
	close(dead)
	again := f.Kill(t)
	wg.Wait()
	again()
	f.wantRight(t)
	for _, plain := range acked {
		insist(t, "what was acknowledged", func() error { return get(t.Context(), t, stores[0], plain) })
	}
	for i, s := range stores {
		works(t, s, acked[i], noise(2000+uint64(i), 300_000))
	}
}
