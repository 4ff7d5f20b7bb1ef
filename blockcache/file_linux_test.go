package blockcache_test

import (
	"os"
	"syscall"
	"testing"
)

// onDisk is how many bytes a file takes on disk.
func onDisk(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Blocks * 512
}
