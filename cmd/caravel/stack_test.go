package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"caravel/catalog"
	"caravel/store"
)

type failingStore struct{ err error }

func (f failingStore) Get(context.Context, store.Want) (*store.Chunk, error) { return nil, f.err }
func (failingStore) Has(context.Context, store.Want) (bool, error)           { return false, nil }

// TestWitness doubts an index whose chunk nobody has, as some servers say by a
// refusal, and none whose chunk could not be asked for.
func TestWitness(t *testing.T) {
	for _, tt := range []struct {
		err   error
		doubt bool
	}{
		{&store.MissingError{Where: "s"}, true},
		{&store.CorruptError{Where: "s"}, true},
		{fmt.Errorf("403: %w", store.ErrRefused), true},
		{fmt.Errorf("chunk: %w", catalog.ErrOffline), false},
		{&store.BusyError{Err: errors.New("503")}, false},
		{context.Canceled, false},
	} {
		doubted := false
		_, err := witness{failingStore{tt.err}, func() { doubted = true }}.Get(t.Context(), store.Want{})
		if !errors.Is(err, tt.err) || doubted != tt.doubt {
			t.Errorf("%v: doubted %t, want %t; %v", tt.err, doubted, tt.doubt, err)
		}
	}
}
