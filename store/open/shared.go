package open

import (
	"errors"
	"io"
	"sync"
)

// Shared is what one opening leaves to the next one besides HTTP's client: sessions
// and logins of other kinds of places. Its methods may be called from many
// goroutines; nil shares nothing, and what an opening then makes ends when it has
// been idle, and with the process.
type Shared struct {
	mu   sync.Mutex // guards kept
	kept map[string]io.Closer
}

// NewShared holds nothing yet.
func NewShared() *Shared { return &Shared{kept: map[string]io.Closer{}} }

// of is what is kept for a kind of places, which make makes.
func (s *Shared) of(kind string, make func() io.Closer) io.Closer {
	if s == nil {
		return make()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.kept[kind]
	if !ok {
		c = make()
		s.kept[kind] = c
	}
	return c
}

// Close ends it all, and what was opened with it.
func (s *Shared) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, c := range s.kept {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
