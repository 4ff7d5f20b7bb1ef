package blockcache_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/blockcache"
	"caravel/store"
)

// A reader of demand waits no longer than it may, be it for a chunk or, while a store
// hangs, for room in memory first. One of the background has time.
func TestWait(t *testing.T) {
	data := noise(64 << 10)
	x, s := image(t, data, 4<<10)
	synctest.Test(t, func(t *testing.T) {
		s.gate = make(chan struct{})
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(8 << 10), Wait: 3 * time.Second})
		defer img.Close()
		begun := time.Now()
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				_, err := img.View(store.Demand).ReadAt(t.Context(), make([]byte, 100), int64(i)<<12)
				if err == nil || !strings.Contains(err.Error(), "no answer within 3s") {
					t.Errorf("chunk %d: %v", i, err)
				}
				if took := time.Since(begun); took != 3*time.Second {
					t.Errorf("chunk %d: failed after %v", i, took)
				}
			})
		}
		all.Wait()
		all.Go(func() {
			if _, err := img.View(store.Sweep).ReadAt(t.Context(), make([]byte, 100), 0); err != nil {
				t.Errorf("in the background: %v", err)
			}
		})
		time.Sleep(time.Minute)
		s.gate <- struct{}{}
		all.Wait()
		close(s.gate)
		p := make([]byte, 100)
		if _, err := img.View(store.Demand).ReadAt(t.Context(), p, 5<<12); err != nil || string(p) != string(data[5<<12:][:100]) {
			t.Errorf("once the store answers: %v", err)
		}
	})
}
