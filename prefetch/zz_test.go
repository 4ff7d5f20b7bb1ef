package prefetch_test
import ("testing";"testing/synctest";"time";"fmt";"caravel/blockcache";"caravel/prefetch";"caravel/store")
func TestZZ(t *testing.T) {
	x, s := image(t, 512)
	synctest.Test(t, func(t *testing.T) {
		mem := blockcache.NewMemory(8 << 20)
		img := blockcache.New(x, s, blockcache.Options{Memory: mem})
		defer img.Close()
		r := prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead), prefetch.Options{Window: 1<<20})
		b := time.Now(); last := time.Duration(0); lo := int64(0)
		for off := int64(0); off < x.Size(); off += 4096 {
			r.ReadAt(t.Context(), make([]byte, 4096), off)
			if d := time.Since(b); d != last { fmt.Println(last, (off-lo)/chunk, s.asks()); last = d; lo = off }
		}
	})
}
