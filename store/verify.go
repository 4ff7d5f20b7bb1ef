package store

import "context"

// Verify passes on only chunks whose bytes match their ID; Get returns a
// *CorruptError for others. A chunk that is verified already costs nothing.
func Verify(s Store) Store { return verified{s} }

// verified hides that the store that it wraps may be a Writer: what is written
// through it would not be verified.
type verified struct{ Store }

func (v verified) Get(ctx context.Context, want Want) (*Chunk, error) {
	c, err := v.Store.Get(ctx, want)
	if err != nil {
		return nil, err
	}
	if err := c.Verify(); err != nil {
		c.Release()
		return nil, err
	}
	return c, nil
}
