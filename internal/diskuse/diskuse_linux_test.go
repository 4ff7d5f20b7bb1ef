package diskuse_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"caravel/internal/diskuse"
)

func TestOpeners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk0")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if got := diskuse.Of(path); len(got) != 1 || got[0] != "open by "+string(comm[:len(comm)-1])+" ("+strconv.Itoa(os.Getpid())+")" {
		t.Errorf("open file: %q", got)
	}
	if got := diskuse.Of(path, int(f.Fd())); len(got) != 0 {
		t.Errorf("our own: %q", got)
	}
}
