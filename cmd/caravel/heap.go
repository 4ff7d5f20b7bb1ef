package main

import (
	"math"
	"os"
	"runtime/debug"
	"sync"
)

// What is known to take memory, in bytes.
const (
	otherBytes = 36 << 20 // chunks on their way, connections, the program
	rowBytes   = 40       // a row of an index
	entryBytes = 130      // an entry of a tree, at most
)

// A heapLimit has the garbage collector work harder above what the indexes, the
// trees, the chunks in memory and those under way need, where by default it lets
// the heap grow to twice what is in use: a fifth less memory for the same speed,
// reading an image whole. Too low a limit costs more than memory does: 10 MiB less had
// the Go distribution's tree be collected 5,700 times in place of 100, and be read in
// 38 s, not 8. $GOMEMLIMIT goes before it.
type heapLimit struct {
	mu   sync.Mutex
	need int64 // guarded by mu
}

// add makes room for n things of size bytes.
func (l *heapLimit) add(n int, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if os.Getenv("GOMEMLIMIT") != "" || l.need > math.MaxInt64/2 {
		return
	}
	l.need += int64(n) * size
	debug.SetMemoryLimit(l.need + otherBytes)
}
