package fetch_test

import (
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"caravel/chunker"
	server "caravel/internal/origin"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/http"
	"caravel/store/local"
)

// webStore serves a store of n small chunks.
func webStore(t *testing.T, n int, opt server.Options) (o *server.Origin, s store.Store, wants []store.Want) {
	t.Helper()
	dir := t.TempDir()
	w, err := store.Writable(local.New(dir, local.Options{}), store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		plain := content(i, small)
		c := store.NewChunk(chunker.SHA512_256.Sum(plain), chunker.SHA512_256, plain, nil)
		if err := w.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		wants = append(wants, store.Want{ID: c.ID(), Size: small})
	}
	if o, err = server.Start(dir, opt); err != nil {
		t.Fatal(err)
	}
	client := http.NewClient(http.Options{})
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	web, err := http.New(o.URL(), http.Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	return o, store.Chunks(web, store.Form{}), wants
}

// Ten thousand callers who leave, with real connections: nothing is left of it.
func TestStormLeavesNothing(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	t.Run("storm", func(t *testing.T) {
		_, s, wants := webStore(t, 500, server.Options{RTT: time.Millisecond})
		q := fetch.New(s, fetch.Options{})
		var wg sync.WaitGroup
		for i := range 10_000 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(5000))*time.Microsecond)
				defer cancel()
				w := wants[rand.IntN(len(wants))]
				w.Class = store.Class(i % store.Classes)
				if c, err := q.Get(ctx, w); err == nil {
					c.Release()
				} else if ctx.Err() == nil {
					t.Error(err)
				}
			})
			if i%100 == 0 {
				runtime.Gosched()
			}
		}
		wg.Wait()
		if s := q.Stats(); s.Queued != 0 {
			t.Errorf("%d are queued, whom nobody wants", s.Queued)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	// What net/http has to end by itself takes a moment.
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		g, f := runtime.NumGoroutine(), openFiles(t)
		if g <= goroutines && f <= files {
			return
		}
		if time.Now().After(deadline) {
			all := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d files, before %d and %d\n%s", g, f, goroutines, files, all[:runtime.Stack(all, true)])
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Connections are used again, while the window grows and demand comes and goes.
func TestConnectionsAreUsedAgain(t *testing.T) {
	o, s, wants := webStore(t, 1000, server.Options{RTT: 2 * time.Millisecond})
	q := fetch.New(s, fetch.Options{MaxWindow: 32})
	defer q.Close()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := i; j < len(wants); j += 64 {
				w := wants[j]
				if w.Class = store.Sweep; j%5 == 0 {
					w.Class = store.Demand
				}
				get(t, q, w)
			}
		})
	}
	wg.Wait()
	c := o.Counts()
	t.Logf("%d requests, %d at most at a time, over %d connections", c.Requests, c.Peak, c.Connections)
	if c.Connections > 2*32+32 {
		t.Errorf("%d connections for %d requests at a time", c.Connections, c.Peak)
	}
}
