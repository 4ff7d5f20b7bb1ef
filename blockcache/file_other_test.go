//go:build !linux

package blockcache_test

import "testing"

// onDisk is how many bytes a file takes on disk, which is not known here.
func onDisk(testing.TB, string) int64 { return 0 }
