package main

import (
	"errors"
	"strconv"

	"github.com/urfave/cli/v2"
)

// An idShift moves the numbers of users and groups as casync does: modulo a range,
// and then by an offset, into the part that a container's user namespace has.
type idShift struct {
	by    uint32
	mod   uint64
	given bool
}

// defaultRange is what containers have.
const defaultRange = 1 << 16

func shiftFlags(to *idShift) []cli.Flag {
	to.mod = defaultRange
	return []cli.Flag{
		&cli.GenericFlag{Name: "uid-shift", Usage: "add `N` to the numbers of users and groups, modulo --uid-range; yes: 0; as casync extract", Value: &shiftBy{to}},
		&cli.GenericFlag{Name: "uid-range", Usage: "take the numbers of users and groups modulo `N` first, up to 4294967296", DefaultText: "65536 with --uid-shift", Value: &shiftRange{to}},
	}
}

// shiftBy is the value of --uid-shift.
type shiftBy struct{ *idShift }

func (s *shiftBy) Set(text string) error {
	switch text {
	case again:
		return nil
	case "yes", "y", "true", "t", "on":
		text = "0"
	case "no", "n", "false", "f", "off":
		s.given = false
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return errors.New("want a number below 2^32, yes or no")
	}
	s.by, s.given = uint32(n), true
	return nil
}

func (*shiftBy) String() string    { return "" }
func (*shiftBy) Serialize() string { return again }

// shiftRange is the value of --uid-range.
type shiftRange struct{ *idShift }

func (s *shiftRange) Set(text string) error {
	if text == again {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 || n > 1<<32 {
		return errors.New("want a number from 1 to 2^32")
	}
	s.mod, s.given = n, true
	return nil
}

func (*shiftRange) String() string    { return "" }
func (*shiftRange) Serialize() string { return again }

// id is a number where it lies after the shift; nil if there is none.
func (s idShift) id() (func(uint32) uint32, error) {
	if !s.given {
		return nil, nil
	}
	if uint64(s.by)+s.mod > 1<<32 {
		return nil, usagef("--uid-shift=%d and --uid-range=%d: go beyond 2^32", s.by, s.mod)
	}
	return func(n uint32) uint32 { return uint32(uint64(n)%s.mod) + s.by }, nil
}
