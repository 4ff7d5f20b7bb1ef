package limit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/limit"
	"caravel/store/storetest"
)

// ample are limits that nothing comes up against.
func ample() limit.Limits {
	return limit.Limits{Down: []*limit.Bucket{limit.NewBucket(1 << 40)}, Up: []*limit.Bucket{limit.NewBucket(1 << 40)}, Requests: limit.NewSlots(2000)}
}

func TestBlobs(t *testing.T) {
	storetest.RunBlobs(t, func(_ *testing.T, objects map[string][]byte) store.Blobs {
		return limit.Blobs(storetest.NewMemory(objects), ample())
	})
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Writer {
		w, err := store.Writable(storetest.NewMemory(nil), store.Form{})
		if err != nil {
			t.Fatal(err)
		}
		return limit.Store(w, ample()).(store.Writer)
	})
}

// A store that is held back can do what it could before, and no more.
func TestAbilities(t *testing.T) {
	m := storetest.NewMemory(nil)
	type reads struct{ store.Blobs }
	for _, b := range []store.Blobs{
		reads{m},
		struct {
			reads
			store.Putter
		}{reads{m}, m},
		struct {
			reads
			store.Lister
		}{reads{m}, m},
		struct {
			reads
			store.Deleter
		}{reads{m}, m},
		struct {
			reads
			store.Putter
			store.Lister
		}{reads{m}, m, m},
		struct {
			reads
			store.Putter
			store.Deleter
		}{reads{m}, m, m},
		struct {
			reads
			store.Lister
			store.Deleter
		}{reads{m}, m, m},
		m,
	} {
		l := limit.Blobs(b, ample())
		_, puts := b.(store.Putter)
		_, lists := b.(store.Lister)
		_, deletes := b.(store.Deleter)
		_, nowPuts := l.(store.Putter)
		_, nowLists := l.(store.Lister)
		_, nowDeletes := l.(store.Deleter)
		if puts != nowPuts || lists != nowLists || deletes != nowDeletes {
			t.Errorf("%T: put %v, list %v, delete %v became %v, %v, %v", b, puts, lists, deletes, nowPuts, nowLists, nowDeletes)
		}
	}
	if limit.Blobs(m, limit.Limits{}) != store.Blobs(m) {
		t.Error("no limits are a wrapper")
	}
}

// Sixteen that share a bucket take together as long as the bytes are worth.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each, readers, rate = 1 << 20, 16, 4 << 20
		bucket := limit.NewBucket(rate)
		object := make([]byte, each)
		began := time.Now()
		var all sync.WaitGroup
		for range readers {
			all.Go(func() {
				b := limit.Blobs(storetest.NewMemory(map[string][]byte{"a": object}), limit.Limits{Down: []*limit.Bucket{bucket}})
				body, _, err := b.Open(t.Context(), "a", store.Range{})
				if err != nil {
					t.Error(err)
					return
				}
				defer body.Close()
				if n, err := io.Copy(io.Discard, body); n != each || err != nil {
					t.Error(n, err)
				}
			})
		}
		all.Wait()
		if took, want := time.Since(began).Seconds(), float64(each*readers)/rate; took < 0.95*want || took > 1.05*want {
			t.Errorf("took %.2f s, want %.2f", took, want)
		}
	})
}

func TestUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory(nil)
		b := limit.Blobs(m, limit.Limits{Up: []*limit.Bucket{limit.NewBucket(1000)}}).(store.Putter)
		began := time.Now()
		if err := b.Put(t.Context(), "a", bytes.NewReader(make([]byte, 14096)), 14096); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began).Seconds(); took < 9.5 || took > 10.5 { // 4 KiB go at once
			t.Errorf("took %.2f s", took)
		}
		if n := len(m.Objects()["a"]); n != 14096 {
			t.Errorf("%d bytes there", n)
		}
	})
}

// Who gives up does not wait for the bytes.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := limit.NewBucket(1)
		b := limit.Blobs(storetest.NewMemory(map[string][]byte{"a": make([]byte, 1<<20)}), limit.Limits{Down: []*limit.Bucket{bucket}})
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(gone) })
		body, _, err := b.Open(ctx, "a", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, body); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		body.Close()
	})
}

// counting knows how many requests there were at once.
type counting struct {
	store.Blobs
	now, most atomic.Int64
}

func (c *counting) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	n := c.now.Add(1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	time.Sleep(time.Second)
	body, info, err := c.Blobs.Open(ctx, name, r)
	if err != nil {
		c.now.Add(-1)
		return nil, info, err
	}
	return closing{body, func() { c.now.Add(-1) }}, info, nil
}

type closing struct {
	io.ReadCloser
	closed func()
}

func (c closing) Close() error {
	defer c.closed()
	return c.ReadCloser.Close()
}

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Blobs: storetest.NewMemory(map[string][]byte{"a": []byte("x")})}
		slots := limit.NewSlots(3)
		began := time.Now()
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				b := limit.Blobs(c, limit.Limits{Requests: slots})
				if i%3 == 2 {
					if _, _, err := b.Open(t.Context(), "none", store.Range{}); !errors.Is(err, store.ErrMissing) {
						t.Error(err)
					}
					return
				}
				body, _, err := b.Open(t.Context(), "a", store.Range{})
				if err != nil {
					t.Error(err)
					return
				}
				body.Close()
				body.Close() // gives no slot back twice
			})
		}
		all.Wait()
		if took := time.Since(began); c.most.Load() != 3 || took != 10*time.Second {
			t.Errorf("%d at once in %v, want 3 in 10 s", c.most.Load(), took)
		}
	})
}
