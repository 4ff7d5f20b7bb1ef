package index

import (
	"testing"
	"time"
)

// A Fill asks for as much at once as fills the link, and little more.
func TestPace(t *testing.T) {
	const ms = time.Millisecond
	links := []struct {
		name  string
		rtt   time.Duration
		bytes float64 // a second
		level int     // at last; those beside it are tried now and then
	}{
		{"20 ms, 1 Gbit/s", 20 * ms, 125e6, 4},
		{"20 ms, 100 Mbit/s", 20 * ms, 12.5e6, 1},
		{"20 ms, 10 Mbit/s", 20 * ms, 1.25e6, 0},
		{"200 ms, 1 Gbit/s", 200 * ms, 125e6, 5},
		{"1 ms, 1 Gbit/s", 1 * ms, 125e6, 0},
		{"20 ms, 1 Gbit/s, again", 20 * ms, 125e6, 4},
	}
	var p pace // from one link to the next
	for _, l := range links {
		others := 0
		for i := range 400 {
			n := float64(p.rows()*rowSize*p.flights()) / l.bytes
			p.took(p.level, l.rtt+time.Duration(n*float64(time.Second)))
			if i >= 200 && p.level != l.level {
				others++
			}
		}
		if others > 40 {
			t.Errorf("%s: %d answers of 200 not on level %d", l.name, others, l.level)
		}
	}
}
