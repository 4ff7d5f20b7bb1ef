package sftp

import (
	"strings"
	"sync"
)

// words keep the end of what a program says to people.
type words struct {
	mu   sync.Mutex // guards tail
	tail []byte
}

// tailSize is how much of it is kept, in bytes.
const tailSize = 2 << 10

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail = append(w.tail, p[max(0, len(p)-tailSize):]...)
	w.tail = w.tail[max(0, len(w.tail)-tailSize):]
	return len(p), nil
}

// String is the last two lines that say something, in one.
func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last []string
	for line := range strings.Lines(string(w.tail)) {
		if line = oneLine(line); line != "" {
			last = append(last, line)
		}
	}
	return strings.Join(last[max(0, len(last)-2):], "; ")
}
