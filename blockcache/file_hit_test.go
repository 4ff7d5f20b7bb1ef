//go:build !race

package blockcache_test

import (
	"path/filepath"
	"testing"

	"caravel/blockcache"
	"caravel/store"
)

// What a file has needs no memory, and a read of it no allocation.
func TestFileHit(t *testing.T) {
	x, s := image(t, noise(64<<10), 8<<10)
	f := openFile(t, filepath.Join(t.TempDir(), "f"), x, 0, x.Size())
	mem := blockcache.NewMemory(1 << 20)
	img := blockcache.New(x, s, blockcache.Options{Memory: mem})
	img.Attach(f)
	defer img.Close()
	if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
		t.Fatal(err)
	}
	v, p := img.View(store.Demand), make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.ReadAt(t.Context(), p, 8192); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a read", n)
	}
	img.View(store.ReadAhead).Want(blockcache.Range{Off: 0, Len: x.Size()})
	if st := mem.Stats(); st.Bytes != 0 || st.UnderWay != 0 {
		t.Errorf("memory was used: %+v", st)
	}
	if st, end := v.State(100); st != blockcache.Resident || end != 8192 {
		t.Errorf("%v to %d", st, end)
	}
}
