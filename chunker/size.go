package chunker

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes in casync's form: decimal digits with an
// optional fraction and one of the suffixes E P T G M K (powers of 1024) or B;
// several of these, with decreasing suffixes, add up: 64K, 1.5M, 1M512K. What a
// fraction leaves of a byte is dropped.
func ParseSize(s string) (int64, error) {
	const suffixes = "EPTGMKB"
	total, rest := uint64(0), s
	for least := 0; ; {
		whole, fraction, after, err := parseNumber(rest)
		if err != nil {
			return 0, fmt.Errorf("chunker: size %q: %w", s, err)
		}
		suffix := len(suffixes)
		if after != "" {
			if i := strings.IndexByte(suffixes, after[0]); i >= 0 {
				suffix, after = i, after[1:]
			}
		}
		if suffix < least {
			return 0, fmt.Errorf("chunker: size %q: a part is not smaller than the one before it", s)
		}
		shift := 10 * max(len(suffixes)-1-suffix, 0)
		if whole > math.MaxInt64>>shift {
			return 0, fmt.Errorf("chunker: size %q: above 2^63-1", s)
		}
		total += whole<<shift + uint64(fraction*float64(uint64(1)<<shift))
		if total > math.MaxInt64 {
			return 0, fmt.Errorf("chunker: size %q: above 2^63-1", s)
		}
		if after == "" {
			return int64(total), nil
		}
		least, rest = suffix+1, after
	}
}

// parseNumber splits s into a number, its fraction and what follows; blanks are
// skipped before it and behind it.
func parseNumber(s string) (whole uint64, fraction float64, rest string, err error) {
	const blanks, digits = " \t\r\n", "0123456789"
	s = strings.TrimLeft(s, blanks)
	rest = strings.TrimLeft(s, digits)
	if len(rest) == len(s) {
		return 0, 0, "", fmt.Errorf("%q is no number and none of the suffixes E P T G M K B", s)
	}
	if whole, err = strconv.ParseUint(s[:len(s)-len(rest)], 10, 64); err != nil {
		return 0, 0, "", fmt.Errorf("above 2^63-1")
	}
	if behind, found := strings.CutPrefix(rest, "."); found {
		rest = strings.TrimLeft(behind, digits)
		if fraction, err = strconv.ParseFloat("0."+behind[:len(behind)-len(rest)], 64); err != nil {
			return 0, 0, "", err
		}
	}
	return whole, fraction, strings.TrimLeft(rest, blanks), nil
}

// ParseParams reads what casync takes for --chunk-size: "auto", an average (see
// [Around]), or min:avg:max. What it returns is Cuttable.
func ParseParams(s string) (Params, error) {
	if s == "auto" {
		return DefaultParams(), nil
	}
	parts := strings.Split(s, ":")
	if len(parts) != 1 && len(parts) != 3 {
		return Params{}, fmt.Errorf("chunker: sizes %q: want auto, one average or min:avg:max", s)
	}
	sizes := make([]int, len(parts))
	for i, part := range parts {
		size, err := ParseSize(part)
		if err != nil {
			return Params{}, err
		}
		if size < 1 || size > MaxSize {
			return Params{}, fmt.Errorf("chunker: size %q: not within 1 and %d bytes", part, MaxSize)
		}
		sizes[i] = int(size)
	}
	p := Around(sizes[0])
	if len(sizes) == 3 {
		p = Params{Min: sizes[0], Avg: sizes[1], Max: sizes[2]}
	}
	if err := p.Cuttable(); err != nil {
		return Params{}, err
	}
	return p, nil
}
