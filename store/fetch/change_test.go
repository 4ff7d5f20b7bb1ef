package fetch_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/fetch"
)

var update = flag.Bool("update", false, "draw docs/link-change.svg anew")

const (
	slows, quickens, ends = 2 * time.Second, 6 * time.Second, 9 * time.Second

	follows = 2 * time.Second
)

// The link becomes fifty times slower, and fast again: what is in flight follows
// within two seconds, and nobody who reads meanwhile waits for long.
func TestLinkChanges(t *testing.T) {
	alone, _ := watchChange(t, false)
	beside, reads := watchChange(t, true)
	for _, tt := range []struct {
		name        string
		seen        []point
		most, least float64 // of the mean, on the slow link and on the fast one
	}{
		{"sweep alone", alone, 4, 64},
		{"sweep beside reads", beside, 4, 24},
	} {
		if n := mean(tt.seen, slows+follows, quickens); n > tt.most {
			t.Errorf("%s: %.1f in flight on the slow link, want %v at most", tt.name, n, tt.most)
		}
		if n := mean(tt.seen, quickens+follows, ends); n < tt.least {
			t.Errorf("%s: %.1f in flight on the fast link, want %v at least", tt.name, n, tt.least)
		}
	}
	for _, p := range reads {
		if most := 250.0; p.y > most {
			t.Errorf("a read took %v ms at %v, want %v at most", p.y, p.at, most)
		}
		if p.at > slows+time.Second && p.y > 60 {
			t.Errorf("a read took %v ms at %v", p.y, p.at)
		}
	}
	if *update {
		if err := os.WriteFile("../../docs/link-change.svg", drawChange(alone, beside, reads), 0o666); err != nil {
			t.Error(err)
		}
	}
}

// What was cancelled to make way may come all the same: it is taken, and where
// it has been asked for again by then, one of the two is dropped.
func TestMadeWayInVain(t *testing.T) {
	o := &origin{latency: 20 * ms, link: link{rate: gigabit}, deaf: true}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Sweep, onTheWay)
		time.Sleep(time.Second)
		o.link.set(twenty)
		for i := range 30 {
			get(t, q, wanted(i, onTheWay, store.Demand))
		}
		stop()
		synctest.Wait()
		s := q.Stats()
		if s.MadeWay == 0 {
			t.Error("nothing made way")
		}
		if s.InFlight != 0 || s.Queued != 0 || s.Held != 0 {
			t.Errorf("after all: %+v", s)
		}
		if n := s.Class[store.Sweep]; n.Failed != 0 || n.Retries != 0 || n.Chunks < 1000 {
			t.Errorf("%+v", n)
		}
	})
}

// mean is the mean of what was seen between two times.
func mean(seen []point, from, to time.Duration) float64 {
	sum, n := 0.0, 0.0
	for _, p := range seen {
		if p.at >= from && p.at < to {
			sum, n = sum+p.y, n+1
		}
	}
	return sum / n
}

// A point is something measured at a time.
type point struct {
	at time.Duration
	y  float64
}

// watchChange runs a sweep over the changing link, with or without somebody who
// reads a chunk, thinks for 50 ms, and reads the next one. It returns how many
// requests were in flight, and how many milliseconds each read took.
func watchChange(t *testing.T, demand bool) (inFlight, reads []point) {
	o := &origin{latency: 20 * ms, link: link{rate: gigabit}}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		begin := time.Now()
		stop := sweep(t, q, store.Sweep, onTheWay)
		time.AfterFunc(slows, func() { o.link.set(twenty) })
		time.AfterFunc(quickens, func() { o.link.set(gigabit) })
		var reader sync.WaitGroup
		reader.Go(func() {
			for n := 0; demand && time.Since(begin) < ends; n++ {
				start := time.Now()
				get(t, q, wanted(n, onTheWay, store.Demand))
				reads = append(reads, point{start.Sub(begin), float64(time.Since(start)) / 1e6})
				time.Sleep(50 * ms)
			}
		})
		for at := time.Duration(0); at < ends; at += 20 * ms {
			time.Sleep(time.Until(begin.Add(at)))
			synctest.Wait()
			inFlight = append(inFlight, point{at, float64(q.Stats().InFlight)})
		}
		reader.Wait()
		stop()
	})
	return inFlight, reads
}

// drawChange makes a picture of two panels: requests in flight, and reads.
func drawChange(alone, beside, reads []point) []byte {
	const width, height, left, gap = 640, 150, 48, 40
	var b strings.Builder
	x := func(at time.Duration) float64 { return left + at.Seconds()*float64(width)/ends.Seconds() }
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", left+width+16, 2*height+2*gap+24)
	fmt.Fprintf(&b, "<!-- made by: go test ./store/fetch -run TestLinkChanges -update -->\n")
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	panel := func(top int, title, unit string, most float64, ticks []int) func(float64) float64 {
		y := func(v float64) float64 { return float64(top+height) - min(v, most)/most*height }
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#eee"/>`+"\n", x(slows), top, x(quickens)-x(slows), height)
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", left, top-8, title)
		for _, v := range ticks {
			fmt.Fprintf(&b, `<path d="M%d %.1fh%d" stroke="#ccc"/><text x="%d" y="%.1f" text-anchor="end">%d%s</text>`+"\n", left, y(float64(v)), width, left-4, y(float64(v))+4, v, unit)
		}
		return y
	}
	curve := func(points []point, y func(float64) float64, color string) {
		var d strings.Builder
		for i, p := range points {
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(i, 1)], x(p.at), y(p.y))
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.3"/>`+"\n", d.String(), color)
	}
	y := panel(gap, "requests in flight: a sweep alone (blue), beside a reader (orange)", "", 130, []int{0, 32, 64, 96, 128})
	curve(alone, y, "#1f6fb4")
	curve(beside, y, "#e07b00")
	top := 2*gap + height
	y = panel(top, "how long each read of a chunk takes", " ms", 250, []int{0, 50, 100, 150, 200, 250})
	for _, p := range reads {
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="1.6" fill="#e07b00"/>`+"\n", x(p.at), y(p.y))
	}
	for s := 0; s <= int(ends.Seconds()); s++ {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d s</text>`+"\n", x(time.Duration(s)*time.Second), top+height+16, s)
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">20 Mbit/s (elsewhere 1 Gbit/s; 20 ms; chunks of 40 KiB)</text>`+"\n</svg>\n", x((slows+quickens)/2), gap+14)
	return []byte(b.String())
}
