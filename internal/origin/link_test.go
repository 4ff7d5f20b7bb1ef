package origin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// All answers together take as long as their bytes need, however many there are.
func TestBandwidthIsShared(t *testing.T) {
	const size, rate = 100_000, 1_000_000
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, inFlight := range []int{1, 8, 128} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(dir, Options{Bandwidth: rate})
			began := time.Now()
			var all sync.WaitGroup
			for range inFlight {
				all.Go(func() {
					o.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/file", nil))
				})
			}
			all.Wait()
			want := time.Duration(inFlight) * size * time.Second / rate
			if took := time.Since(began); took > want || took < want-slack-time.Millisecond {
				t.Errorf("%d answers: took %v, want %v", inFlight, took, want)
			}
			if c := o.Counts(); c.Bytes != int64(inFlight*size) || c.Peak != int64(inFlight) {
				t.Errorf("%d answers: counted %d bytes, %d at a time", inFlight, c.Bytes, c.Peak)
			}
		})
	}
}

// A sender that wakes up late makes up for it, within the slack.
func TestLateSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(1_000_000)
		began := time.Now()
		for range 100 {
			if err := l.carry(t.Context(), 10_000); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > time.Second+slack {
			t.Errorf("1 MB at 1 MB/s took %v", took)
		}
	})
}

func TestCarryCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newLink(1).carry(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

func TestRTT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t.TempDir(), Options{RTT: 20 * time.Millisecond})
		began := time.Now()
		answer := httptest.NewRecorder()
		o.ServeHTTP(answer, httptest.NewRequest("GET", "/none", nil))
		if took := time.Since(began); answer.Code != http.StatusNotFound || took != 20*time.Millisecond {
			t.Errorf("got %d after %v, want 404 after 20ms", answer.Code, took)
		}
	})
}

// A change of the bandwidth counts at once, also for who waits already.
func TestBandwidthChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(1000)
		began := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if err := l.carry(t.Context(), 1000); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Second) // 2000 bytes and the slack
		l.setRate(4000)
		time.Sleep(time.Second) // 4000 bytes
		l.setRate(100)
		time.Sleep(10 * time.Second) // 1000 bytes
		l.setRate(3000)
		all.Wait() // 3000 bytes
		want := 14 * time.Second
		if took := time.Since(began); took > want || took < want-slack {
			t.Errorf("took %v, want %v", took, want)
		}
		l.setRate(1)
		all.Go(func() {
			if err := l.carry(t.Context(), 1<<40); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		l.setRate(0)
		all.Wait()
		if took := time.Since(began); took > want {
			t.Errorf("without a limit took %v", took-want)
		}
	})
}
