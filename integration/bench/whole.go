//go:build linux

package main

import (
	"time"

	"caravel/internal/origin"
)

// peers adds those contestants whose program is there.
func (s *setting) peers(ours []contestant, casync, desync contestant) []contestant {
	if s.casync != "" {
		casync.name, casync.args = "casync", append([]string{s.casync}, casync.args...)
		ours = append(ours, casync)
	}
	if s.desync != "" {
		desync.name, desync.args = "desync", append([]string{s.desync}, desync.args...)
		ours = append(ours, desync)
	}
	return ours
}

func (s *setting) caravel(reset func() error, args ...string) contestant {
	return contestant{"caravel", reset, append([]string{s.bin}, args...)}
}

func (s *setting) makeEmpty() error {
	a, b, c := s.path("a.castr"), s.path("b.castr"), s.path("c.castr")
	all := s.peers([]contestant{s.caravel(afresh(a), "make", "--store="+a, s.path("a.caibx"), s.image)},
		contestant{reset: afresh(b), args: []string{"make", "--store=" + b, s.path("b.caibx"), s.image}},
		contestant{reset: afresh(c), args: []string{"make", "-s", c, s.path("c.caibx"), s.image}})
	nosync := s.caravel(afresh(a), "make", "--no-sync", "--store="+a, s.path("a.caibx"), s.image)
	nosync.name = "no sync"
	return compete("make, empty store (caravel waits for the disk, the others do not)", s.runs, s.bytes, append(all, nosync)...)
}

func (s *setting) makePresent() error {
	st := s.path("www", "default.castr")
	return compete("make again, all chunks present", s.runs, s.bytes, s.peers(
		[]contestant{s.caravel(nil, "make", "--store="+st, s.path("a.caibx"), s.image)},
		contestant{args: []string{"make", "--store=" + st, s.path("b.caibx"), s.image}},
		contestant{args: []string{"make", "-s", st, s.path("c.caibx"), s.image}})...)
}

func (s *setting) extract() error {
	st, x, out := s.path("www", "default.castr"), s.path("www", "disk.caibx"), s.path("out.img")
	all := s.peers([]contestant{s.caravel(without(out), "extract", "--store="+st, x, out)},
		contestant{reset: without(out), args: []string{"extract", "--store=" + st, x, out}},
		contestant{reset: without(out), args: []string{"extract", "-s", st, x, out}})
	nosync := s.caravel(without(out), "extract", "--no-sync", "--store="+st, x, out)
	nosync.name = "no sync"
	return compete("extract, local store (caravel waits for the disk, the others do not)", s.runs, s.bytes, append(all, nosync)...)
}

func (s *setting) extractHTTP() error {
	o, err := origin.Start(s.path("www"), origin.Options{RTT: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	defer o.Close()
	x, st, out := o.URL()+"/disk.caibx", o.URL()+"/default.castr", s.path("out.img")
	all := []contestant{s.caravel(without(out), "extract", x, out)}
	if s.desync != "" {
		all = append(all, contestant{"desync", without(out), []string{s.desync, "extract", "-s", st, x, out}},
			contestant{"desync 64", without(out), []string{s.desync, "extract", "-n", "64", "-s", st, x, out}})
	}
	return compete("extract over HTTP, 20 ms away (casync: one request at a time, left out)", s.runs, s.bytes, all...)
}
