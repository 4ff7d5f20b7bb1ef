//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"caravel/internal/origin"
)

// wanStream reads the mounted disk image from its start.
func (s *setting) wanStream() error {
	fmt.Printf("\nthe disk image, mounted, cold, --no-sweep (MB/s of the image)\n")
	for _, c := range []struct {
		measure, goal string
		bandwidth     int64
		peerBytes     int64 // what the peer reads: it would take minutes for all
	}{
		{"in order, 1 Gbit/s", ">= 130", gigabit, 32 << 20},
		{"in order, no limit", ">= 150", 0, 32 << 20},
		{"in order, 100 Mbit/s", ">= 38 (90 % of the link)", slow, 32 << 20},
	} {
		o, err := s.faraway(c.bandwidth, nil)
		if err != nil {
			return err
		}
		rate, n, cpu, err := s.streamRate(o, -1, s.bin, "mount", "--no-sweep", "--cache-dir=none", o.URL()+"/disk.caibx")
		if err != nil {
			return err
		}
		row(c.measure, c.goal, "%6.1f  %5d requests  %6.1f MB  %4.0f µs a chunk", rate, n.Requests, float64(n.Bytes)/1e6, cpu)
		if s.desync != "" {
			rate, n, _, err := s.streamRate(o, c.peerBytes, s.desync, "mount-index", "-s", o.URL()+"/default.castr", o.URL()+"/disk.caibx")
			if err != nil {
				return err
			}
			row("", "desync", "%6.1f  %5d requests  %6.1f MB", rate, n.Requests, float64(n.Bytes)/1e6)
		}
		if err := o.Close(); err != nil {
			return err
		}
	}
	return s.sixteen()
}

// streamRate reads the first bytes of the image, or all, in order: MB/s, and
// processor time of the program for a request, in µs.
func (s *setting) streamRate(o *origin.Origin, bytes int64, args ...string) (rate float64, c origin.Counts, cpu float64, err error) {
	var rates, cpus []float64
	for range s.runsOf(args[0]) {
		o.Reset()
		m, err := s.mountBy(args...)
		if err != nil {
			return 0, c, 0, err
		}
		path, err := m.onlyFile()
		began := time.Now()
		var n int64
		if err == nil {
			n, err = readFirst(path, bytes)
		}
		took := time.Since(began).Seconds()
		c = o.Counts()
		if endErr := m.end(); err == nil {
			err = endErr
		}
		if err != nil {
			return 0, c, 0, err
		}
		rates = append(rates, float64(n)/1e6/took)
		cpus = append(cpus, m.processor()*1e6/float64(c.Requests))
	}
	return median(rates), c, median(cpus), nil
}

// sixteen readers take 4 KiB at random places each, one after the other. What
// nobody has asked for before costs each of them a round trip, whoever fetches
// it: 800 reads a second are the most that they can have of that. More comes of
// what is there already, which is where the sweep makes the difference, and a file
// that it goes to, which need not be unpacked for each read.
func (s *setting) sixteen() error {
	o, err := s.faraway(gigabit, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	fmt.Printf("\n16 readers, 4 KiB at random, cold, 1 Gbit/s (reads a second)\n")
	x := o.URL() + "/disk.caibx"
	for _, c := range []struct {
		measure, goal string
		spell         time.Duration
		args          []string
	}{
		{"--no-sweep, 3 s", "", 3 * time.Second, []string{"--no-sweep", "--cache-dir=none"}},
		{"with the sweep, 10 s", "", 10 * time.Second, nil},
		{"with the sweep, --materialize, 10 s", ">= 20 times desync", 10 * time.Second, []string{"--materialize=yes"}},
		{"with the sweep, --materialize, 30 s", ">= 20 times desync", 30 * time.Second, []string{"--materialize=yes"}},
	} {
		ours, err := s.random(o, c.spell, append(append([]string{s.bin, "mount"}, c.args...), x)...)
		if err != nil {
			return err
		}
		if s.desync == "" {
			row(c.measure, c.goal, "%6.0f", ours)
			continue
		}
		theirs, err := s.random(o, c.spell, s.desync, "mount-index", "-s", o.URL()+"/default.castr", x)
		if err != nil {
			return err
		}
		row(c.measure, c.goal, "%6.0f  (desync %.0f: %.1f times)", ours, theirs, ours/theirs)
	}
	return nil
}

func (s *setting) random(o *origin.Origin, spell time.Duration, args ...string) (perSecond float64, err error) {
	const readers = 16
	var all []float64
	for range s.runsOf(args[0]) {
		if err := s.cold(); err != nil {
			return 0, err
		}
		m, err := s.mountBy(args...)
		if err != nil {
			return 0, err
		}
		path, err := m.onlyFile()
		if err != nil {
			return 0, err
		}
		var done atomic.Int64
		var failed atomic.Pointer[error]
		var wg sync.WaitGroup
		began := time.Now()
		for reader := range readers {
			wg.Go(func() {
				err := readAround(path, uint64(reader), func() bool {
					done.Add(1)
					return time.Since(began) < spell
				})
				if err != nil {
					failed.Store(&err)
				}
			})
		}
		wg.Wait()
		all = append(all, float64(done.Load())/time.Since(began).Seconds())
		if err := m.end(); err != nil {
			return 0, err
		}
		if err := failed.Load(); err != nil {
			return 0, *err
		}
	}
	return median(all), nil
}

// readAround reads 4 KiB at random places until goOn says no.
func readAround(path string, seed uint64, goOn func() bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	places, b := rand.New(rand.NewPCG(seed, 9)), make([]byte, 4096)
	for {
		if _, err := f.ReadAt(b, places.Int64N(st.Size()-4096)&^4095); err != nil {
			return err
		}
		if !goOn() {
			return nil
		}
	}
}

// wanSweep measures readers beside a sweep that fills the link, and the sweep.
func (s *setting) wanSweep() error {
	fmt.Printf("\n4 KiB of a disk image at random, one after the other, while the sweep fills the link (ms)\n")
	for _, c := range []struct {
		measure, goal string
		bandwidth     int64
	}{
		{"beside the sweep, 1 Gbit/s", "p99 <= 60", gigabit},
		{"beside the sweep, 100 Mbit/s", "p99 <= 100", slow},
	} {
		var all []float64
		for range s.runs {
			times, err := s.besideSweep(c.bandwidth)
			if err != nil {
				return err
			}
			all = append(all, times...)
		}
		slices.Sort(all)
		row(c.measure, c.goal, "p50 %5.1f  p99 %5.1f  (%d reads)", 1e3*median(all), 1e3*all[len(all)*99/100], len(all))
	}
	return s.sweepAll()
}

// besideSweep reads until there are 100 readings, or the sweep is over.
func (s *setting) besideSweep(bandwidth int64) (seconds []float64, err error) {
	o, err := s.faraway(bandwidth, nil)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if err := s.cold(); err != nil {
		return nil, err
	}
	m, err := s.mountBy(s.bin, "mount", o.URL()+"/disk.caibx")
	if err != nil {
		return nil, err
	}
	path, err := m.onlyFile()
	if err != nil {
		return nil, err
	}
	time.Sleep(300 * time.Millisecond) // until the sweep is at its full rate
	last := time.Now()
	err = readAround(path, 5, func() bool {
		now := time.Now()
		seconds = append(seconds, now.Sub(last).Seconds())
		last = now
		return len(seconds) < 100
	})
	if endErr := m.end(); err == nil {
		err = endErr
	}
	return seconds, err
}

// sweepAll is the whole tree in the background.
func (s *setting) sweepAll() error {
	o, err := s.faraway(gigabit, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	var all []float64
	for range s.runs {
		if err := s.cold(); err != nil {
			return err
		}
		o.Reset()
		m, err := s.mountBy(s.bin, "mount", o.URL()+"/tree.caidx")
		if err != nil {
			return err
		}
		all = append(all, settled(o, m.began, 500*time.Millisecond).Seconds())
		if err := m.end(); err != nil {
			return err
		}
	}
	c := o.Counts()
	row("the whole tree in the background", "<= 2.0 s", "%6.2f s  %d requests  %.1f MB", median(all), c.Requests, float64(c.Bytes)/1e6)
	return nil
}
