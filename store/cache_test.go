package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"caravel/store"
	"caravel/store/storetest"
)

func TestCache(t *testing.T) {
	for _, f := range wrapped {
		storetest.RunStore(t, f, func(t *testing.T, objects map[string][]byte) store.Store {
			return store.Cache(writer(t, storetest.NewMemory(nil)), store.Chunks(storetest.NewMemory(objects), f), nil)
		})
	}
}

func writer(t *testing.T, b store.Blobs) store.Writer {
	t.Helper()
	w, err := store.Writable(b, store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestCacheKeeps(t *testing.T) {
	plain := storetest.Plains()[2]
	m, far := storetest.NewMemory(nil), holding(t, plain)
	k := store.Cache(writer(t, m), far, nil)
	for range 10 {
		gives(t, k, plain)
	}
	if far.asked() != 1 {
		t.Errorf("the store was asked %d times, want once", far.asked())
	}
	far.say(errDead)
	gives(t, k, plain)

	// What came packed lies there packed alike: nothing was compressed again.
	name := store.Form{}.Name(storetest.Want(plain).ID)
	if got, want := m.Objects()[name], storetest.Objects(t, store.Form{}, plain)[name]; !bytes.Equal(got, want) {
		t.Errorf("%d bytes lie there, %d came", len(got), len(want))
	}
}

func TestCacheRepairs(t *testing.T) {
	plain := storetest.Plains()[2]
	name := store.Form{}.Name(storetest.Want(plain).ID)
	for _, spoilt := range []string{"", "nonsense that is no chunk"} {
		m, far := storetest.NewMemory(map[string][]byte{name: []byte(spoilt)}), holding(t, plain)
		k := store.Cache(writer(t, m), far, nil)
		gives(t, k, plain)
		gives(t, k, plain)
		if far.asked() != 1 {
			t.Errorf("%q: the store was asked %d times, want once", spoilt, far.asked())
		}
	}
}

// full is a disk without room.
type full struct{ store.Writer }

var errFull = errors.New("no space left on device")

func (full) Put(context.Context, *store.Chunk) error { return errFull }

func TestCacheFull(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	k := store.Cache(full{writer(t, storetest.NewMemory(nil))}, holding(t, storetest.Plains()...), log)
	for _, plain := range storetest.Plains() {
		gives(t, k, plain)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), errFull.Error()) {
		t.Errorf("logged %d lines, want one that says why:\n%s", n, &out)
	}
}

func TestCacheSaysWhatStoreSays(t *testing.T) {
	far := holding(t)
	far.say(errDead)
	k := store.Cache(writer(t, storetest.NewMemory(nil)), far, nil)
	if _, err := k.Get(t.Context(), storetest.Want([]byte("x"))); !errors.Is(err, errDead) {
		t.Errorf("got %v, want %v", err, errDead)
	}
	if ok, err := k.Has(t.Context(), storetest.Want([]byte("x"))); ok || !errors.Is(err, errDead) {
		t.Errorf("Has: %v, %v", ok, err)
	}
}

// lazy is a store that takes chunks when it likes to.
type lazy struct {
	store.Writer
	puts, keeps int
}

func (l *lazy) Put(ctx context.Context, c *store.Chunk) error {
	l.puts++
	return l.Writer.Put(ctx, c)
}

func (l *lazy) Keep(c *store.Chunk) error {
	l.keeps++
	return nil
}

// Only those wait for a Keeper who fetch for its sake.
func TestCacheKeeper(t *testing.T) {
	want := storetest.Want(storetest.Plains()[2])
	for class := store.Demand; int(class) < store.Classes; class++ {
		near := &lazy{Writer: writer(t, storetest.NewMemory(nil))}
		k := store.Cache(near, holding(t, storetest.Plains()[2]), nil)
		want.Class = class
		c, err := k.Get(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		c.Release()
		if waits := class == store.Profile || class == store.Sweep; waits != (near.puts == 1) || near.puts+near.keeps != 1 {
			t.Errorf("%v: %d times Put, %d times Keep", class, near.puts, near.keeps)
		}
	}
}

// watching notes whether what is put is verified.
type watching struct {
	store.Writer
	verified []bool
}

func (w *watching) Put(ctx context.Context, c *store.Chunk) error {
	w.verified = append(w.verified, c.Verified())
	return w.Writer.Put(ctx, c)
}

// What is put was verified before, and is the chunk that the caller gets: nobody
// need verify it again.
func TestCacheVerifiesOnce(t *testing.T) {
	plain := storetest.Plains()[2]
	near := &watching{Writer: writer(t, storetest.NewMemory(nil))}
	k := store.Cache(near, holding(t, plain), nil)
	for range 2 {
		c, err := k.Get(t.Context(), storetest.Want(plain))
		if err != nil {
			t.Fatal(err)
		}
		if !c.Verified() {
			t.Error("the caller has to verify it")
		}
		c.Release()
	}
	if len(near.verified) != 1 || !near.verified[0] {
		t.Errorf("put, verified: %v", near.verified)
	}
}
