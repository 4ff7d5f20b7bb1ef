package diskcache_test

import (
	"log/slog"
	"strings"
	"testing"

	"caravel/store"
	"caravel/store/diskcache"
	"caravel/store/storetest"

	"golang.org/x/sys/unix"
)

// On a disk that is full reads go on, and the log says so once.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("%s: no tmpfs can be mounted: %v", t.Name(), err)
	}
	var c *diskcache.Cache
	t.Cleanup(func() {
		if c != nil {
			c.Close()
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	var out strings.Builder
	c, err := diskcache.Open(dir, diskcache.Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	noise := storetest.Plains()[3]
	var plains [][]byte
	for i := range 40 {
		plains = append(plains, noise[i*1000:i*1000+50_000])
	}
	f := store.Form{Compression: store.None}
	s := store.Cache(c, store.Chunks(storetest.NewMemory(storetest.Objects(t, f, plains...)), f), nil)
	for range 2 {
		for i, plain := range plains {
			if err := get(t.Context(), s, plain); err != nil {
				t.Errorf("chunk %d: %v", i, err)
			}
		}
		if err := c.Sync(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "no space left on device") {
		t.Errorf("logged %d lines:\n%s", n, &out)
	}
	stats := c.Stats()
	if stats.Kept < 5 || stats.Kept > 25 || stats.Failed == 0 || stats.Hits < stats.Kept {
		t.Errorf("%+v", stats)
	}
	// What is there is of use even if nothing at all can be written.
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if c, err = diskcache.Open(dir, diskcache.Options{}); err != nil {
		t.Fatal(err)
	}
	s = store.Cache(c, store.Chunks(storetest.NewMemory(storetest.Objects(t, f, plains...)), f), nil)
	for i, plain := range plains {
		if err := get(t.Context(), s, plain); err != nil {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
	if again := c.Stats(); again.Hits != stats.Kept || again.Kept != 0 {
		t.Errorf("read-only: %+v, kept were %d", again, stats.Kept)
	}
	if entries := temporary(t, dir); entries != 0 {
		t.Errorf("%d unfinished files are left", entries)
	}
}
