package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/fetch"
)

var errReset = errors.New("connection reset by peer")

// failing gives these errors in turn, then the chunk.
func failing(errs ...error) *origin {
	o := &origin{latency: 20 * time.Millisecond}
	o.get = func(_ context.Context, w store.Want, n int) (*store.Chunk, error) {
		if n <= len(errs) {
			return nil, errs[n-1]
		}
		return o.good(w)
	}
	return o
}

func TestRetry(t *testing.T) {
	o := failing(errReset, errReset, errReset)
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		start := time.Now()
		get(t, q, want(1, store.Demand))
		// Rests of 20, 40 and 80 ms, each from half to one and a half of it.
		if d := time.Since(start); d < (80+70)*time.Millisecond || d > (80+210)*time.Millisecond {
			t.Errorf("three retries took %v", d)
		}
		if n := q.Stats().Class[store.Demand].Retries; n != 3 {
			t.Errorf("%d retries, want 3", n)
		}
	})
}

// The first rest is as long as one likes, and those after it grow from there.
func TestRest(t *testing.T) {
	for _, tt := range []struct{ rest, least, most time.Duration }{
		{time.Millisecond, 3500 * time.Microsecond, 10500 * time.Microsecond},
		{time.Second, 3500 * time.Millisecond, 10500 * time.Millisecond},
		{8 * time.Second, 12 * time.Second, 36 * time.Second}, // longer than they grow to
	} {
		run(t, failing(errReset, errReset, errReset), fetch.Options{Rest: tt.rest}, func(t *testing.T, q *fetch.Queue) {
			start := time.Now()
			get(t, q, want(1, store.Demand))
			if d := time.Since(start) - 80*time.Millisecond; d < tt.least || d > tt.most {
				t.Errorf("%v: three retries took %v, want %v to %v", tt.rest, d, tt.least, tt.most)
			}
		})
	}
}

func TestFinal(t *testing.T) {
	for _, err := range []error{
		&store.MissingError{Where: "origin"},
		&store.BusyError{Err: store.ErrRefused},
		store.ErrRefused,
	} {
		o := failing(err, err)
		run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
			if got := tryGet(q, want(1, store.Demand)); !errors.Is(got, err) {
				t.Errorf("got %v, want %v", got, err)
			}
			if o.total() != 1 {
				t.Errorf("%v: asked %d times", err, o.total())
			}
		})
	}
}

func TestCorrupt(t *testing.T) {
	tests := []struct {
		name  string
		spoil int // answers that are corrupt
		want  error
		tries int
	}{
		{"once, then good", 1, nil, 2},
		{"three times, then good", 3, nil, 4},
		{"four times", 4, store.ErrCorrupt, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &origin{latency: 20 * time.Millisecond}
			o.get = func(_ context.Context, w store.Want, n int) (*store.Chunk, error) {
				if n <= tt.spoil {
					return o.chunk(w, content(666, w.Size)), nil
				}
				return o.good(w)
			}
			run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
				if err := tryGet(q, want(1, store.Demand)); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if o.total() != tt.tries {
					t.Errorf("asked %d times, want %d", o.total(), tt.tries)
				}
			})
		})
	}
}

// An origin that answers with another chunk, though a sound one.
func TestOtherChunk(t *testing.T) {
	o := &origin{}
	o.get = func(_ context.Context, _ store.Want, _ int) (*store.Chunk, error) {
		return o.good(want(2, 0))
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		want(2, 0)
		if err := tryGet(q, want(1, store.Demand)); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	o.get = func(_ context.Context, w store.Want, n int) (*store.Chunk, error) {
		if n == 1 && w.Class == store.Demand {
			return nil, &store.BusyError{After: 3 * time.Second, Err: errors.New("503")}
		}
		return o.good(w)
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { get(t, q, want(1, store.Demand)) })
		time.Sleep(time.Second)
		// Background waits as told, though it is another chunk.
		wg.Go(func() {
			get(t, q, want(2, store.Sweep))
			if d := time.Since(start); d < 3*time.Second || d > 4*time.Second {
				t.Errorf("background went on after %v, want 3 s", d)
			}
		})
		wg.Wait()
		if d := time.Since(start); d < 3*time.Second || d > 4*time.Second {
			t.Errorf("came back after %v, want 3 s", d)
		}
	})
}

func TestTimeout(t *testing.T) {
	down := make([]error, 1000)
	for i := range down {
		down[i] = errReset
	}
	o := failing(down...)
	run(t, o, fetch.Options{Timeout: 10 * time.Second}, func(t *testing.T, q *fetch.Queue) {
		start := time.Now()
		err := tryGet(q, want(1, store.Demand))
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("gave up after %v, want 10 s", d)
		}
		if !errors.Is(err, errReset) || !strings.Contains(err.Error(), "tries in 10s: connection reset") ||
			!strings.Contains(err.Error(), want(1, 0).ID.String()) {
			t.Errorf("got %v", err)
		}
	})
}

func TestForEver(t *testing.T) {
	down := make([]error, 100)
	for i := range down {
		down[i] = errReset
	}
	run(t, failing(down...), fetch.Options{Timeout: -1}, func(t *testing.T, q *fetch.Queue) {
		start := time.Now()
		get(t, q, want(1, store.Demand))
		if time.Since(start) < 2*time.Minute {
			t.Errorf("100 retries took %v", time.Since(start))
		}
	})
}

// An origin that does not answer at all: those in line are told in time, too.
func TestStalled(t *testing.T) {
	o := &origin{latency: 24 * time.Hour}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if err := tryGet(q, want(i, store.Demand)); err == nil || !strings.Contains(err.Error(), "no answer") {
					t.Errorf("got %v", err)
				}
				if d := time.Since(start); d != time.Minute {
					t.Errorf("gave up after %v, want 1 m", d)
				}
			})
		}
		wg.Wait()
	})
}

func TestStallIsRetried(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	o.get = func(ctx context.Context, w store.Want, n int) (*store.Chunk, error) {
		if n == 1 {
			return nil, sleep(ctx, time.Hour)
		}
		return o.good(w)
	}
	run(t, o, fetch.Options{Try: 5 * time.Second}, func(t *testing.T, q *fetch.Queue) {
		start := time.Now()
		get(t, q, want(1, store.Walk)) // not demand: that would be hedged
		if d := time.Since(start); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("took %v, want little more than 5 s", d)
		}
	})
}

func TestBackgroundGivesUpQuietly(t *testing.T) {
	var log bytes.Buffer
	opt := fetch.Options{Timeout: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))}
	o := &origin{}
	o.get = func(context.Context, store.Want, int) (*store.Chunk, error) { return nil, errReset }
	run(t, o, opt, func(t *testing.T, q *fetch.Queue) {
		start := time.Now()
		if err := tryGet(q, want(1, store.Sweep)); !errors.Is(err, errReset) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("background kept trying for %v", d)
		}
		if log.Len() > 0 {
			t.Errorf("logged: %s", &log)
		}
	})
}

// A caller whose chunk stood in line all the time learns what the others met.
func TestGivenUpInLine(t *testing.T) {
	o := &origin{}
	o.get = func(context.Context, store.Want, int) (*store.Chunk, error) {
		time.Sleep(20 * time.Second)
		return nil, errReset
	}
	opt := fetch.Options{MinWindow: 1, MaxWindow: 1, Timeout: time.Minute}
	run(t, o, opt, func(t *testing.T, q *fetch.Queue) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if err := tryGet(q, want(i, store.Demand)); !errors.Is(err, errReset) {
					t.Errorf("%d: got %v", i, err)
				}
			})
		}
		wg.Wait()
	})
}

// Who waits for an origin that is down is told so once, and when it is back.
func TestLongOutage(t *testing.T) {
	var log bytes.Buffer
	opt := fetch.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}
	o := &origin{}
	first := sync.OnceValue(time.Now) // within the bubble, whose clock is its own
	o.get = func(_ context.Context, w store.Want, _ int) (*store.Chunk, error) {
		if time.Since(first()) < 20*time.Second {
			return nil, errReset
		}
		return o.good(w)
	}
	run(t, o, opt, func(t *testing.T, q *fetch.Queue) {
		if err := tryGet(q, want(1, store.Demand)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // for the log
		text := log.String()
		if strings.Count(text, "asking again") != 1 || strings.Count(text, "come again") != 1 || !strings.Contains(text, errReset.Error()) {
			t.Errorf("logged: %s", text)
		}
	})
}

// An origin beside which there is another is not asked for long.
func TestFewTries(t *testing.T) {
	for _, class := range []store.Class{store.Demand, store.Sweep} {
		o := &origin{}
		var asked atomic.Int64
		o.get = func(context.Context, store.Want, int) (*store.Chunk, error) {
			asked.Add(1)
			return nil, errReset
		}
		run(t, o, fetch.Options{Tries: 2}, func(t *testing.T, q *fetch.Queue) {
			start := time.Now()
			if err := tryGet(q, want(1, class)); !errors.Is(err, errReset) {
				t.Errorf("%v: got %v", class, err)
			}
			if n, d := asked.Load(), time.Since(start); n != 2 || d > time.Second {
				t.Errorf("%v: asked %d times in %v, want 2 in no time", class, n, d)
			}
		})
	}
}

// One answer in ten is a 503: nobody notices but the clock.
func TestFaultStorm(t *testing.T) {
	took := func(fault func(n int) error) (d time.Duration) {
		o := &origin{latency: 20 * time.Millisecond}
		var answers atomic.Int64
		o.get = func(_ context.Context, w store.Want, _ int) (*store.Chunk, error) {
			if err := fault(int(answers.Add(1))); err != nil {
				return nil, err
			}
			return o.good(w)
		}
		run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
			start := time.Now()
			var wg sync.WaitGroup
			var next atomic.Int64
			for range 100 {
				wg.Go(func() {
					for i := next.Add(1); i <= 5000; i = next.Add(1) {
						get(t, q, want(int(i), store.Class(i%int64(store.Classes))))
					}
				})
			}
			wg.Wait()
			d = time.Since(start)
		})
		return d
	}
	calm := took(func(int) error { return nil })
	storm := took(func(n int) error {
		if n%10 == 0 {
			return &store.BusyError{Err: errors.New("503 Service Unavailable")}
		}
		return nil
	})
	t.Logf("calm %v, storm %v: x%.2f", calm, storm, float64(storm)/float64(calm))
	if storm > calm*3/2 {
		t.Errorf("took %v, without faults %v", storm, calm)
	}
}
