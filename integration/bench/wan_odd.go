//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"caravel/internal/origin"
)

// wanOdd is an origin with moods: answers that are late, answers that are
// refusals; and a working set beside a sweep.
func (s *setting) wanOdd() error {
	fmt.Printf("\n16 readers, 4 KiB at random, cold, from an origin with moods\n")
	late := origin.Odds{Chance: 0.01, Fault: origin.Fault{Late: 2 * time.Second}}
	busy := origin.Odds{Chance: 0.1, Fault: origin.Fault{Kind: origin.Answer, Status: 503}}
	for _, c := range []struct {
		measure, goal string
		odds          origin.Odds
	}{
		{"1 % of answers take 2 s", "p99 <= 150 ms, twice <= 5 %", late},
		{"10 % of answers are 503", "no hedging", busy},
	} {
		if err := s.moody(c.measure, c.goal, c.odds); err != nil {
			return err
		}
	}
	if err := s.workingSet(); err != nil {
		return err
	}
	return s.treeMemory()
}

func (s *setting) moody(measure, goal string, odds origin.Odds) error {
	var all []float64
	var twice, hedges float64
	for run := range s.runs {
		o, err := s.faraway(gigabit, func(opt *origin.Options) { opt.Faults = origin.Random(uint64(run), odds) })
		if err != nil {
			return err
		}
		stats := s.path("stats.json")
		m, err := s.mountBy(s.bin, "mount", "--no-sweep", "--cache-dir=none", "--profile=none", "--stats-file="+stats, o.URL()+"/disk.caibx")
		if err != nil {
			return err
		}
		path, err := m.onlyFile()
		if err != nil {
			return err
		}
		times, err := readTogether(path, 16, 60)
		if endErr := m.end(); err == nil {
			err = endErr
		}
		if err != nil {
			return err
		}
		all = append(all, times...)
		if odds.Fault.Kind == origin.None {
			twice = max(twice, s.asked(o.Counts()))
		}
		if hedges, err = hedged(stats); err != nil {
			return err
		}
		if err := o.Close(); err != nil {
			return err
		}
	}
	slices.Sort(all)
	row(measure, goal, "p50 %4.0f  p99 %4.0f ms, %.1f %% of the bytes twice, %.0f hedges", 1e3*median(all), 1e3*all[len(all)*99/100], 100*twice, hedges)
	return nil
}

// readTogether returns the seconds that each read of some readers took.
func readTogether(path string, readers, reads int) ([]float64, error) {
	var mu sync.Mutex
	var all []float64
	var failed error
	var wg sync.WaitGroup
	for reader := range readers {
		wg.Go(func() {
			var times []float64
			last := time.Now()
			err := readAround(path, uint64(reader), func() bool {
				now := time.Now()
				times = append(times, now.Sub(last).Seconds())
				last = now
				return len(times) < reads
			})
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			if failed == nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return all, failed
}

// asked is which part of the bytes of chunks was asked for more than once.
func (s *setting) asked(c origin.Counts) float64 {
	all, again := 0.0, 0.0
	for path, n := range c.Paths {
		if st, err := os.Stat(filepath.Join(s.path("www"), path)); err == nil && strings.HasSuffix(path, ".cacnk") {
			all += float64(st.Size())
			again += float64(n-1) * float64(st.Size())
		}
	}
	return again / all
}

// hedged is how many second requests a run has made.
func hedged(stats string) (float64, error) {
	b, err := os.ReadFile(stats)
	if err != nil {
		return 0, err
	}
	var said struct {
		Origins []struct {
			Hedges float64 `json:"hedges"`
		} `json:"origins"`
	}
	if err := json.Unmarshal(b, &said); err != nil || len(said.Origins) == 0 {
		return 0, fmt.Errorf("%s: no origins: %w", stats, err)
	}
	return said.Origins[0].Hedges, nil
}

// workingSet reads half of the memory's budget again and again while the sweep
// goes over the rest of the image. What takes longer than a few milliseconds
// was not in memory.
func (s *setting) workingSet() error {
	const set, budget, slowRead = 32 << 20, "64M", 5 * time.Millisecond
	o, err := s.faraway(gigabit/4, nil) // so that the sweep takes a while
	if err != nil {
		return err
	}
	defer o.Close()
	if err := s.cold(); err != nil {
		return err
	}
	m, err := s.mountBy(s.bin, "mount", "--memory="+budget, "--profile=none", o.URL()+"/disk.caibx")
	if err != nil {
		return err
	}
	reads, missed, err := s.hot(m, o, set, slowRead)
	if endErr := m.end(); err == nil {
		err = endErr
	}
	if err != nil {
		return err
	}
	row("hot set of half the budget beside the sweep", ">= 95 % in memory", "%.2f %% of %d reads", 100*(1-float64(missed)/float64(reads)), reads)
	return nil
}

func (s *setting) hot(m *mountedProgram, o *origin.Origin, set int64, limit time.Duration) (reads, missed int, err error) {
	path, err := m.onlyFile()
	if err != nil {
		return 0, 0, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0) // past the kernel's memory
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	b := aligned(4096)
	for range 2 {
		for off := int64(0); off < set; off += 4096 {
			if _, err := f.ReadAt(b, off); err != nil {
				return 0, 0, err
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for before := int64(-1); ; {
		for range 20_000 {
			began := time.Now()
			if _, err := f.ReadAt(b, rng.Int64N(set)&^4095); err != nil {
				return 0, 0, err
			}
			reads++
			if time.Since(began) > limit {
				missed++
			}
		}
		now := o.Counts().Requests
		if now == before {
			return reads, missed, nil // the sweep is over
		}
		before = now
	}
}

// aligned is memory that can be read into without the kernel's copy.
func aligned(n int) []byte {
	b := make([]byte, n+4096)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & 4095)
	return b[skip : skip+n]
}

// treeMemory reads all of the mounted tree.
func (s *setting) treeMemory() error {
	o, err := s.faraway(0, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	if err := s.cold(); err != nil {
		return err
	}
	m, err := s.mountBy(s.bin, "mount", o.URL()+"/tree.caidx")
	if err != nil {
		return err
	}
	err = filepath.WalkDir(m.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			_, err = readFirst(path, -1)
		}
		return err
	})
	if endErr := m.end(); err == nil {
		err = endErr
	}
	if err != nil {
		return err
	}
	row("memory after the whole tree was read", "<= 48 MB + 64 MiB", "%d MiB", m.peak())
	return nil
}
