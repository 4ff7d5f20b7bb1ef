package chunker

import "fmt"

// MaxSize is the most bytes that a chunk may have, in any image: 128 MiB.
const MaxSize = 128 << 20

// window is the number of bytes that the rolling hash looks at.
const window = 48

// Params are the sizes between which a stream is cut, in bytes. All three
// equal means chunks of a fixed size.
type Params struct {
	Min, Avg, Max int
}

// DefaultParams returns 16K:64K:256K, casync's and desync's default.
func DefaultParams() Params { return Params{Min: 16 << 10, Avg: 64 << 10, Max: 256 << 10} }

// Around returns the sizes that go with one average: a quarter of it and four
// times it, inside the limits.
func Around(avg int) Params {
	return Params{Min: max(avg/4, 1), Avg: avg, Max: 4 * min(avg, MaxSize/4)}
}

// String is the form that the command line takes, in bytes.
func (p Params) String() string { return fmt.Sprintf("%d:%d:%d", p.Min, p.Avg, p.Max) }

// Fixed reports whether every chunk but the last has the same size.
func (p Params) Fixed() bool { return p.Min == p.Avg && p.Avg == p.Max }

// Valid checks what every index must fulfil: 1 ≤ min ≤ avg ≤ max ≤ 128 MiB.
func (p Params) Valid() error {
	switch {
	case p.Min < 1:
		return fmt.Errorf("chunker: sizes %v: the minimum is below 1", p)
	case p.Min > p.Avg:
		return fmt.Errorf("chunker: sizes %v: the minimum is above the average", p)
	case p.Avg > p.Max:
		return fmt.Errorf("chunker: sizes %v: the average is above the maximum", p)
	case p.Max > MaxSize:
		return fmt.Errorf("chunker: sizes %v: the maximum is above %d", p, MaxSize)
	}
	return nil
}

// Cuttable checks Valid and what cutting needs beyond it: the first place where
// a cut can be found lies a window behind the start, so a maximum below the
// window would be exceeded (casync fails there only after it has cut).
func (p Params) Cuttable() error {
	if err := p.Valid(); err != nil {
		return err
	}
	if !p.Fixed() && p.Max < window {
		return fmt.Errorf("chunker: sizes %v: a maximum below %d bytes works only for chunks of a fixed size", p, window)
	}
	return nil
}
