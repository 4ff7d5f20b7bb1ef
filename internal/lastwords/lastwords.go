// Package lastwords keeps what a program has said last to people, as on its standard
// error: that says why it ended.
package lastwords

import (
	"strings"
	"sync"
)

const (
	size  = 4 << 10 // bytes that are kept
	lines = 3       // that are told
)

// Words are the end of what was written to them. The zero value is ready; its methods
// may be called from many goroutines.
type Words struct {
	mu   sync.Mutex // guards tail
	tail []byte
}

// Write keeps the end of p. It never fails.
func (w *Words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail = append(w.tail, p[max(0, len(p)-size):]...)
	w.tail = w.tail[max(0, len(w.tail)-size):]
	return len(p), nil
}

// String is the last three lines that say something, in one, without what would move
// a terminal.
func (w *Words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last []string
	for line := range strings.Lines(string(w.tail)) {
		if line = OneLine(line); line != "" {
			last = append(last, line)
		}
	}
	return strings.Join(last[max(0, len(last)-lines):], "; ")
}

// OneLine is what somebody else says, as a part of one line.
func OneLine(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)), " ")
}
