package prefetch_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"caravel/prefetch"
)

// A shelf has the even rows, fetches the others, and fails for the last.
type shelf struct{ rows int }

func (s shelf) Rows() int { return s.rows }

func (s shelf) Kept(_ context.Context, row int) bool { return row%2 == 0 }

func (s shelf) Keep(_ context.Context, row int) (int, error) {
	switch {
	case row == s.rows-1:
		return 1, errors.New("cannot be written")
	case row%2 == 0:
		return 0, nil
	}
	return 1, nil
}

// Each row counts that was fetched, and read after that, once.
func TestSwept(t *testing.T) {
	const rows = 1000
	s := prefetch.NewSwept(shelf{rows})
	read := func(when string, want int64) {
		t.Helper()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for row := -1; row < rows+100; row++ {
					s.Touch(row)
				}
			})
		}
		all.Wait()
		if got := s.Read(); got != want {
			t.Errorf("%s: %d were read, want %d", when, got, want)
		}
	}
	read("before", 0)
	for row := range rows / 2 {
		_, _ = s.Keep(t.Context(), row)
	}
	read("half", rows/4)
	for row := rows / 2; row < rows; row++ {
		_, _ = s.Keep(t.Context(), row)
	}
	read("all", rows/2-1)
	read("again", rows/2-1)
	var none *prefetch.Swept
	none.Touch(1)
	if none.Read() != 0 {
		t.Error("a nil one counts")
	}
}
