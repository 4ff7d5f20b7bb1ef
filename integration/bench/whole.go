//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
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
	return s.makeFrom("make again, all chunks present", s.image, [3]string{st, st, st}, func(string) func() error { return nil })
}

// makeFrom makes an image into stores that hold much of it, caravel's, casync's and desync's,
// with and without the digest of the whole, which desync has not got.
func (s *setting) makeFrom(title, image string, stores [3]string, reset func(store string) func() error) error {
	a, b, c := stores[0], stores[1], stores[2]
	silent := s.caravel(reset(a), "make", "--no-digest", "--store="+a, s.path("a.caibx"), image)
	whole := s.caravel(reset(a), "make", "--store="+a, s.path("a.caibx"), image)
	whole.name = "digest"
	return compete(title, s.runs, s.bytes, append(s.peers(
		[]contestant{silent},
		contestant{reset: reset(b), args: []string{"make", "--store=" + b, s.path("b.caibx"), image}},
		contestant{reset: reset(c), args: []string{"make", "-s", c, s.path("c.caibx"), image}}), whole)...)
}

// makeNext makes the next version of the image: three bytes in a hundred are others, in 40
// places, and the stores have the former one.
func (s *setting) makeNext() error {
	next := s.path("next.img")
	if err := nextVersion(next, s.image, s.bytes); err != nil {
		return err
	}
	defer os.Remove(next)
	former := s.path("www", "default.castr")
	return s.makeFrom("make of the next version, the former one's chunks present", next, [3]string{s.path("a.castr"), s.path("b.castr"), s.path("c.castr")}, func(store string) func() error {
		return func() error {
			if err := setAside(store); err != nil {
				return err
			}
			return exec.Command("cp", "-al", former, store).Run()
		}
	})
}

// nextVersion copies an image and changes it.
func nextVersion(to, from string, size int64) error {
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	const places = 40
	other := make([]byte, size*2/3*3/100/places)
	rnd := rand.NewChaCha8([32]byte{1})
	for i := range int64(places) {
		rnd.Read(other)
		if _, err := f.WriteAt(other, size*2/3/places*i&^4095); err != nil {
			return err
		}
	}
	return f.Close()
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
