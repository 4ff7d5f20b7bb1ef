//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"caravel/internal/origin"
)

// A statsFile is what --stats-file writes, as far as tests look at it.
type statsFile struct {
	Images []struct {
		Image, Sidecar string
		Chunks         int
		WholeIndex     bool
		Materialised   *bool
		Readers        map[string]struct{ Memory, Zeros, File, Store, Waits, Bytes int64 }
		Profile        struct{ Wanted, Fetched, Present, Failed int64 }
		Caches         map[string]struct{ Named, Disk int64 }
		Sweep          struct {
			Fetched, Read int64
			Full          bool
		}
	}
	Memory struct {
		Budget, Bytes int64
		Hinted        struct {
			Profile struct{ Fetched, Used, Wasted int64 }
		}
	}
	Disk *struct {
		Dir                                        string
		Budget, Bytes, Hits, Misses, Kept, Evicted int64
	}
	Origins []struct {
		Where   string
		Classes map[string]struct{ Requests, Chunks, Stored, Plain int64 }
	}
}

// statsOf reads it.
func statsOf(t *testing.T, path string) statsFile {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(read(t, path)))
	var s statsFile
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStats prints the same for people.
func TestStats(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	o := serveDir(t, p.dir, origin.Options{})
	stats := p.path("stats.json")
	m, dir := mountedTree(t, "--no-sweep", "--cache-dir", t.TempDir(), "--stats", "--stats-file", stats, o.URL()+"/tree.caidx")
	same(t, dir+"/large", p.source+"/large")
	m.ends(syscall.SIGTERM, soon)
	s := statsOf(t, stats)
	// What was read ahead may have been on its way at the end.
	var requests, chunks int64
	for _, origin := range s.Origins {
		for _, c := range origin.Classes {
			requests += c.Requests
			chunks += c.Chunks
		}
	}
	_, came := asked(o)
	switch {
	case len(s.Images) != 1 || len(s.Origins) != 1 || s.Disk == nil:
		t.Fatalf("%+v", s)
	case s.Images[0].Image != o.URL()+"/tree.caidx" || s.Images[0].Sidecar != "used" || !s.Images[0].WholeIndex || s.Images[0].Materialised != nil:
		t.Errorf("image: %+v", s.Images[0])
	case s.Images[0].Readers["demand"].Bytes < 3<<20:
		t.Errorf("readers: %+v", s.Images[0].Readers)
	case s.Disk.Kept < chunks || s.Disk.Misses < chunks:
		t.Errorf("disk: %+v, %d chunks came", s.Disk, chunks)
	}
	if requests < came || chunks == 0 || chunks > came || s.Origins[0].Where != o.URL()+"/default.castr" {
		t.Errorf("origin: %+v, %d chunks were asked for", s.Origins[0], came)
	}
	for _, want := range []string{"image " + o.URL() + "/tree.caidx: ", "sidecar used", "chunks read", "demand", "read since", "cache on disk: ", "origin " + o.URL(), "made way", "requests"} {
		if !strings.Contains(m.stderr.String(), want) {
			t.Errorf("does not print %q:\n%s", want, m.stderr)
		}
	}
}

// TestStatsOfTiers tells which of what was read came from a cache, by class, and what
// of a sweep was of use.
func TestStatsOfTiers(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	o := serveDir(t, p.dir, origin.Options{})
	stats := p.path("stats.json")
	for _, cache := range []string{"--cache-dir", "--cache"} {
		args := []string{cache, filepath.Join(t.TempDir(), "cache"), "--stats", "--stats-file", stats, o.URL() + "/tree.caidx"}
		if cache == "--cache" {
			args = append([]string{"--cache-dir=none"}, args...)
		}
		m, dir := mountedTree(t, args...)
		m.comesToRest(stats)
		if s := statsOf(t, stats).Images[0]; s.Sweep.Fetched == 0 || s.Sweep.Read != 0 {
			t.Errorf("%s, swept: %+v", cache, s)
		}
		same(t, dir+"/large", p.source+"/large")
		m.ends(syscall.SIGTERM, soon)
		s := statsOf(t, stats).Images[0]
		var named, disk int64
		for _, n := range s.Caches {
			named, disk = named+n.Named, disk+n.Disk
		}
		if s.Sweep.Read == 0 || s.Sweep.Read > s.Sweep.Fetched || named+disk < s.Sweep.Read || (named > 0) != (cache == "--cache") || (disk > 0) != (cache == "--cache-dir") {
			t.Errorf("%s, read: %+v", cache, s)
		}
		if !strings.Contains(m.stderr.String(), "from caches") {
			t.Errorf("%s: prints\n%s", cache, m.stderr)
		}
	}
}
