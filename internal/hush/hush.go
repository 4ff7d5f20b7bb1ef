// Package hush keeps one fault from filling a log: a chunk that cannot be read
// fails each read that touches it, and programs try again.
//
//	if said.First(err.Error()) {
//		log.Warn("read failed", "err", err)
//	}
package hush

import (
	"sync"
	"time"
)

const (
	quiet    = time.Minute // how long the same text is not said again
	maxTexts = 1024
)

// Texts are those that were said lately. The zero value is ready; its method
// may be called from many goroutines.
type Texts struct {
	mu   sync.Mutex
	last map[string]time.Time // when a text was last said; guarded by mu
}

// First reports whether text is to be said now.
func (t *Texts) First(text string) bool {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if said, ok := t.last[text]; ok && now.Sub(said) < quiet {
		return false
	}
	if t.last == nil || len(t.last) >= maxTexts {
		t.last = make(map[string]time.Time)
	}
	t.last[text] = now
	return true
}
