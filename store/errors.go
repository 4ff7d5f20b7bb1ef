package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"caravel/chunker"
)

// What callers branch on; match with errors.Is.
var (
	ErrMissing = errors.New("not there")            // the store answered: it has no such chunk or object
	ErrCorrupt = errors.New("corrupt")              // what the store has is not what its name says
	ErrRefused = errors.New("refused by the store") // the answer would be the same again: no permission, not supported

	ErrChanged   = errors.New("changed meanwhile") // the object is not the one whose tag was given
	ErrUnchanged = errors.New("not changed")       // the object is still the one that somebody has
)

// A MissingError says that a store has no such chunk. It matches ErrMissing.
type MissingError struct {
	ID    chunker.ID
	Where string // the store, or the path or URL of the chunk
	Why   string // what is there instead, under another key or none; "": nothing is known
}

func (e *MissingError) Error() string {
	text := fmt.Sprintf("store: chunk %s: not in %s", e.ID, e.Where)
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text
}

func (e *MissingError) Is(target error) bool { return target == ErrMissing }

// A CorruptError says that bytes are not the chunk that they should be. It
// matches ErrCorrupt.
type CorruptError struct {
	ID    chunker.ID
	Where string     // the path or URL of the chunk
	Got   chunker.ID // the digest of what is there; zero if it could not be taken
	Err   error      // why no digest could be taken; nil if Got differs
}

func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("store: chunk %s: %v in %s", e.ID, e.Err, e.Where)
	}
	return fmt.Sprintf("store: chunk %s: digest mismatch (got %s) in %s", e.ID, e.Got, e.Where)
}

func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
func (e *CorruptError) Unwrap() error        { return e.Err }

// Final reports whether asking again for what failed with err is of no use: it
// is missing, corrupt, refused, or another version by now; where several stores
// were asked, in all.
func Final(err error) bool {
	if none := (*noneError)(nil); errors.As(err, &none) {
		return !slices.ContainsFunc(none.tried, func(err error) bool { return !Final(err) })
	}
	return answered(err) || errors.Is(err, ErrRefused) || errors.Is(err, ErrChanged) || errors.Is(err, ErrUnchanged)
}

// A BusyError is an answer that asks to come again later (HTTP 429, 503).
type BusyError struct {
	After time.Duration // how long to wait at least; 0: not said
	Err   error
}

func (e *BusyError) Error() string { return e.Err.Error() }
func (e *BusyError) Unwrap() error { return e.Err }
