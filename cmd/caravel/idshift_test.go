package main

import (
	"math"
	"testing"
)

func TestIDShift(t *testing.T) {
	for _, tt := range []struct {
		shift, mod string
		n, want    uint32
	}{
		{"100000", "", 0, 100000},
		{"100000", "", 1000, 101000},
		{"yes", "", 100007, 34471}, // what casync makes of it
		{"", "5", 100007, 2},
		{"7", "5", 100007, 9},
		{"0", "4294967296", math.MaxUint32, math.MaxUint32},
		{"no", "", 100007, 100007},
		{"", "", 100007, 100007},
	} {
		var s idShift
		shiftFlags(&s)
		if tt.shift != "" {
			if err := (&shiftBy{&s}).Set(tt.shift); err != nil {
				t.Fatal(err)
			}
		}
		if tt.mod != "" {
			if err := (&shiftRange{&s}).Set(tt.mod); err != nil {
				t.Fatal(err)
			}
		}
		id, err := s.id()
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.n; id != nil {
			if got = id(tt.n); got != tt.want {
				t.Errorf("%+v: %d", tt, got)
			}
		} else if got != tt.want {
			t.Errorf("%+v: not shifted", tt)
		}
	}
	for _, bad := range []string{"-1", "x", "4294967296", ""} {
		if (&shiftBy{new(idShift)}).Set(bad) == nil {
			t.Errorf("--uid-shift=%s passes", bad)
		}
	}
	for _, bad := range []string{"0", "x", "4294967297", ""} {
		if (&shiftRange{new(idShift)}).Set(bad) == nil {
			t.Errorf("--uid-range=%s passes", bad)
		}
	}
	if _, err := (idShift{by: 1, mod: 1 << 32, given: true}).id(); err == nil {
		t.Error("numbers beyond 2^32")
	}
}
