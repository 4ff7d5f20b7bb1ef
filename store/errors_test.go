package store_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"caravel/store"
)

func TestFinal(t *testing.T) {
	tests := []struct {
		err  error
		want bool
	}{
		{&store.MissingError{}, true},
		{&store.CorruptError{}, true},
		{store.ErrRefused, true},
		{store.ErrChanged, true},
		{store.ErrUnchanged, true},
		{io.ErrUnexpectedEOF, false},
		{&store.BusyError{Err: errors.New("503")}, false},
	}
	for _, tt := range tests {
		for _, err := range []error{tt.err, fmt.Errorf("somewhere: %w", tt.err)} {
			if got := store.Final(err); got != tt.want {
				t.Errorf("%T %v: got %v, want %v", err, err, got, tt.want)
			}
		}
	}
}
