package integration

import (
	"bytes"
	"strings"
	"sync"
)

// A lockedBuffer collects what a running command writes.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lineWriter sends whole lines to a channel, dropping those that do not fit.
func lineWriter(lines chan<- string) *splitter { return &splitter{lines: lines} }

type splitter struct {
	lines chan<- string
	rest  []byte
}

func (s *splitter) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		line, rest, ok := bytes.Cut(s.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		s.rest = rest
		select {
		case s.lines <- strings.TrimSuffix(string(line), "\r"):
		default:
		}
	}
}
