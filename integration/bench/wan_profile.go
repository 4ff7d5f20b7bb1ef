//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"caravel/internal/origin"
	"caravel/prefetch"
	"caravel/store"
)

// wanProfile replays what a build touched of the mounted Go tree, and what a
// boot touched of a disk image.
func (s *setting) wanProfile() error {
	o, err := s.faraway(gigabit, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	if err := s.buildProfile(o); err != nil {
		return err
	}
	return s.bootProfile(o)
}

// buildFiles are those that building a program with net/http reads of the tree,
// in their order.
func (s *setting) buildFiles() ([]string, error) {
	list := exec.Command("go", "list", "-deps", "-json=Dir,GoFiles,CgoFiles,HFiles,SFiles,IgnoredGoFiles", "net/http")
	list.Env = append(os.Environ(), "GOROOT="+s.tree, "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var files []string
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			Dir                                               string
			GoFiles, CgoFiles, HFiles, SFiles, IgnoredGoFiles []string
		}
		if err := dec.Decode(&p); err != nil {
			return nil, err
		}
		dir, err := filepath.Rel(s.tree, p.Dir)
		if err != nil || strings.HasPrefix(dir, "..") {
			return nil, fmt.Errorf("%s is not in %s: the tree must be Go's own", p.Dir, s.tree)
		}
		for _, names := range [][]string{p.IgnoredGoFiles, p.GoFiles, p.CgoFiles, p.HFiles, p.SFiles} {
			for _, name := range names {
				files = append(files, filepath.Join(dir, name))
			}
		}
	}
	return files, nil
}

// readFiles reads files whole, one after the other.
func readFiles(mnt string, files []string) error {
	for _, f := range files {
		if err := readAll(mnt, f); err != nil {
			return err
		}
	}
	return nil
}

// A profiled run is one with statistics.
type profiled struct {
	took  float64 // seconds of the reads
	count origin.Counts
	stats string // what --stats says of the profile and of what was read
}

// readWith mounts and reads.
func (s *setting) readWith(o *origin.Origin, read func(mnt string) error, args ...string) (p profiled, err error) {
	if err := s.cold(); err != nil {
		return p, err
	}
	o.Reset()
	m, err := s.mountBy(append([]string{s.bin, "mount", "--no-sweep", "--stats"}, args...)...)
	if err != nil {
		return p, err
	}
	began := time.Now()
	err = read(m.dir)
	p.took = time.Since(began).Seconds()
	if endErr := m.end(); err == nil {
		err = endErr
	}
	p.count, p.stats = o.Counts(), m.said.String()
	return p, err
}

func (s *setting) buildProfile(o *origin.Origin) error {
	files, err := s.buildFiles()
	if err != nil {
		return err
	}
	fmt.Printf("\nreading the %d files of a build of net/http in the mounted tree, 20 ms and 1 Gbit/s away\n", len(files))
	x, profile := o.URL()+"/tree.caidx", s.path("build.profile")
	read := func(mnt string) error { return readFiles(mnt, files) }

	alone, err := s.readWith(o, read, "--record="+profile, "--profile=none", x)
	if err != nil {
		return err
	}
	touched, err := s.touched(profile)
	if err != nil {
		return err
	}
	// The index and the sidecar are no waste.
	rest := float64(alone.count.Bytes) - s.sideBytes("tree.caidx") - touched
	row("on demand, first time", "waste <= 25 %", "%6.2f s  %5d requests  %6.2f MB, waste %.1f %%", alone.took, alone.count.Requests, float64(alone.count.Bytes)/1e6, 100*rest/touched)
	return s.replayed(o, read, profile, x, touched)
}

// replayed measures how long a profile takes to be in the cache, and what the
// same reads find then.
func (s *setting) replayed(o *origin.Origin, read func(string) error, profile, x string, touched float64) error {
	var all []float64
	for range s.runs {
		if err := s.cold(); err != nil {
			return err
		}
		o.Reset()
		m, err := s.mountBy(s.bin, "mount", "--no-sweep", "--profile="+profile, x)
		if err != nil {
			return err
		}
		all = append(all, settled(o, m.began, 300*time.Millisecond).Seconds())
		if err := m.end(); err != nil {
			return err
		}
	}
	c := o.Counts()
	waste := float64(c.Bytes) - s.sideBytes("tree.caidx") - touched
	row("in the cache, from the start of the program", "<= 0.3 s, waste <= 5 %", "%6.2f s  %5d requests  %6.2f MB, waste %.1f %%", median(all), c.Requests, float64(c.Bytes)/1e6, 100*waste/touched)
	with, err := s.readWith(o, read, "--profile="+profile, x)
	if err != nil {
		return err
	}
	row("the same reads at once, with the profile", "95 % of demand hits, joins", "%6.2f s  %5d requests  %6.2f MB", with.took, with.count.Requests, float64(with.count.Bytes)/1e6)
	fmt.Print(indent(with.stats))
	return nil
}

func indent(text string) string {
	return "      " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      ") + "\n"
}

// touched is how many bytes the chunks of a profile have in the store.
func (s *setting) touched(profile string) (float64, error) {
	f, err := os.Open(profile)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	p, err := prefetch.ReadProfile(f)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for c := range p.Chunks() {
		st, err := os.Stat(s.path("www", "default.castr", store.Form{Compression: store.Zstd}.Name(c.ID)))
		if err != nil {
			return 0, err
		}
		sum += float64(st.Size())
	}
	return sum, nil
}

// sideBytes is the length of an index and of what lies beside it.
func (s *setting) sideBytes(index string) (sum float64) {
	for _, suffix := range []string{"", ".tree", ".profile"} {
		if st, err := os.Stat(s.path("www", index+suffix)); err == nil {
			sum += float64(st.Size())
		}
	}
	return sum
}

// bootProfile is 2,000 reads as of a boot: runs of 4 to 128 KiB from a few
// hundred places, some of them again.
func (s *setting) bootProfile(o *origin.Origin) error {
	x, profile := o.URL()+"/disk.caibx", s.path("boot.profile")
	fmt.Printf("\n2,000 reads as of a boot over the disk image, 20 ms and 1 Gbit/s away\n")
	read := func(mnt string) error {
		entries, err := os.ReadDir(mnt)
		if err != nil {
			return err
		}
		return boot(filepath.Join(mnt, entries[0].Name()))
	}
	alone, err := s.readWith(o, read, "--record="+profile, "--profile=none", x)
	if err != nil {
		return err
	}
	row("on demand", "", "%6.2f s  %5d requests  %6.2f MB", alone.took, alone.count.Requests, float64(alone.count.Bytes)/1e6)
	var with, warm []float64
	for range s.runs {
		p, err := s.readWith(o, read, "--profile="+profile, x)
		if err != nil {
			return err
		}
		with = append(with, p.took)
		// Warm: from a cache on this disk.
		m, err := s.mountBy(s.bin, "mount", "--no-sweep", "--profile=none", s.path("www", "disk.caibx"))
		if err != nil {
			return err
		}
		began := time.Now()
		err = read(m.dir)
		warm = append(warm, time.Since(began).Seconds())
		if endErr := m.end(); err == nil {
			err = endErr
		}
		if err != nil {
			return err
		}
	}
	link := float64(alone.count.Bytes) / gigabit
	row("with its profile", fmt.Sprintf("<= %.2f s", 1.3*median(warm)+link), "%6.2f s  (local store %.2f s, bytes on the link %.2f s)", median(with), median(warm), link)
	return nil
}

// boot reads the same places each time.
func boot(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	rng, b := rand.New(rand.NewPCG(7, 7)), make([]byte, 128<<10)
	var places []int64
	for range 2000 {
		var off int64
		switch rng.IntN(4) {
		case 0: // somewhere new
			off = rng.Int64N(st.Size() - int64(len(b)))
		default: // near something known
			if len(places) == 0 {
				continue
			}
			off = min(places[rng.IntN(len(places))]+rng.Int64N(256<<10), st.Size()-int64(len(b)))
		}
		off &^= 4095
		places = append(places, off)
		if _, err := f.ReadAt(b[:4096<<rng.IntN(6)], off); err != nil {
			return err
		}
	}
	return nil
}
