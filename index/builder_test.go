package index

import (
	"math"
	"testing"

	"caravel/chunker"
)

// The sum of all chunks must stay within the offsets that there are.
func TestBuilderOverflow(t *testing.T) {
	b := NewBuilder(0, chunker.DefaultParams())
	b.rows = []row{{end: math.MaxInt64 - 1000}}
	if err := b.Append(chunker.ID{}, 1001); err == nil ||
		err.Error() != "index: chunk 1 at 9223372036854774807: 1001 bytes, which ends beyond 2^63-1" {
		t.Errorf("got %v", err)
	}
	if err := b.Append(chunker.ID{}, 1000); err != nil {
		t.Error(err)
	}
	if got := b.Index().Size(); got != math.MaxInt64 {
		t.Errorf("size %d", got)
	}
}
