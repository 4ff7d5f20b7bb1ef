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

// A moody store answers with the errors of a list, then from good.
type moody struct {
	store.Store
	errs  []error
	asked int
}

func (m *moody) next() error {
	m.asked++
	if m.asked > len(m.errs) {
		return nil
	}
	return m.errs[m.asked-1]
}

func (m *moody) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	if err := m.next(); err != nil {
		return nil, err
	}
	return m.Store.Get(ctx, want)
}

func (m *moody) Has(ctx context.Context, want store.Want) (bool, error) {
	if err := m.next(); err != nil {
		return false, err
	}
	return m.Store.Has(ctx, want)
}

func TestRetry(t *testing.T) {
	reset := errors.New("connection reset")
	plain := []byte("some chunk")
	good := store.Chunks(storetest.NewMemory(storetest.Objects(t, store.Form{}, plain)), store.Form{})
	tests := []struct {
		name  string
		errs  []error
		class store.Class
		asked int
		want  string
	}{
		{"passes", []error{reset, reset, reset}, store.Demand, 4, ""},
		{"missing is final", []error{reset, store.ErrMissing}, store.Demand, 2, store.ErrMissing.Error()},
		{"corrupt is final", []error{store.ErrCorrupt}, store.Demand, 1, store.ErrCorrupt.Error()},
		{"refused is final", []error{store.ErrRefused}, store.Demand, 1, store.ErrRefused.Error()},
		{"nobody waits", []error{reset}, store.Sweep, 1, reset.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{Store: good, errs: tt.errs}
				want := storetest.Want(plain)
				want.Class = tt.class
				c, err := store.Retry(m, time.Minute).Get(t.Context(), want)
				if err == nil {
					c.Release()
				}
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if m.asked != tt.asked {
					t.Errorf("asked %d times, want %d", m.asked, tt.asked)
				}
			})
		})
	}
}

func TestRetryGivesUp(t *testing.T) {
	reset := errors.New("connection reset")
	synctest.Test(t, func(t *testing.T) {
		m := &moody{errs: make([]error, 1000)}
		for i := range m.errs {
			m.errs[i] = reset
		}
		began := time.Now()
		_, err := store.Retry(m, time.Minute).Has(t.Context(), store.Want{})
		if !errors.Is(err, reset) || !strings.Contains(err.Error(), "tries in") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took < 45*time.Second || took > time.Minute || m.asked > 30 {
			t.Errorf("asked %d times in %v", m.asked, took)
		}
	})
}

func TestRetryEndsWithItsCaller(t *testing.T) {
	reset, gone := errors.New("connection reset"), errors.New("the caller is gone")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		m := &moody{errs: []error{reset, reset, reset}}
		go func() {
			synctest.Wait()
			cancel(gone)
		}()
		if _, err := store.Retry(m, -1).Get(ctx, store.Want{}); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

// One store may yet have what is corrupt in another.
func TestRetryAsksForWhatOneStoreHasCorrupt(t *testing.T) {
	plain := storetest.Plains()[2]
	reset := errors.New("connection reset")
	synctest.Test(t, func(t *testing.T) {
		good := store.Chunks(storetest.NewMemory(storetest.Objects(t, store.Form{}, plain)), store.Form{})
		m := &moody{Store: good, errs: []error{reset, reset}}
		gives(t, store.Retry(store.Router(nil, forging(plain), m), time.Minute), plain)
	})
}

// The time limit ends a try that is under way, too.
func TestRetryEndsItsTry(t *testing.T) {
	reset := errors.New("connection reset")
	for name, tt := range map[string]struct {
		errs []error
		want string
	}{
		"no answer":          {nil, "no answer in 1m0s"},
		"an error before it": {[]error{reset}, "2 tries in 1m0s: connection reset"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				s := store.Router(nil, &moody{Store: waiting{}, errs: tt.errs})
				_, err := store.Retry(s, time.Minute).Get(t.Context(), store.Want{})
				if err == nil || err.Error() != tt.want {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				if took := time.Since(began); took != time.Minute {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}
