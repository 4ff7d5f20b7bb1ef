//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

// versions are a disk and its next version, in one folder: a.img, b.img and their indexes.
// Of the next one, 6 KiB in 100 are new and all behind the first third has moved.
type versions struct {
	dir        string
	old, now   []byte
	fresh      int64 // bytes of now that are not in old
	oldP, nowP string
}

func newVersions(t testing.TB, size int) *versions {
	t.Helper()
	v := &versions{dir: t.TempDir()}
	v.oldP, v.nowP = v.dir+"/a.img", v.dir+"/b.img"
	random(t, v.oldP, size)
	v.old = read(t, v.oldP)
	clear(v.old[size/2 : size/2+size/8])
	news := func(n int, seed uint64) []byte {
		path := filepath.Join(t.TempDir(), "news")
		random(t, path, n+int(seed))
		return read(t, path)[:n]
	}
	v.fresh = 60_000
	v.now = slices.Concat(v.old[:size/3], news(50_000, 1), v.old[size/3:])
	copy(v.now[100_000:], news(10_000, 2))
	for path, b := range map[string][]byte{v.oldP: v.old, v.nowP: v.now} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		must(t, caravel, "make", "--no-sync", "--chunk-size=4K", strings.TrimSuffix(path, ".img")+".caibx", path)
	}
	return v
}

// An extracted is what extract reports.
type extracted struct {
	Kept, Holes, Seeded, Repeated, Cloned, Fetched int64
	Chunks                                         struct{ Fetched int64 }
}

func extractJSON(t testing.TB, args ...string) (got extracted) {
	t.Helper()
	if err := json.Unmarshal([]byte(must(t, caravel, append([]string{"extract", "--json", "--progress=none"}, args...)...)), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// chunksAsked counts the requests for chunks.
func chunksAsked(o *origin.Origin) (n int64) {
	for path, times := range o.Counts().Paths {
		if strings.HasSuffix(path, ".cacnk") {
			n += times
		}
	}
	return n
}

// TestExtractSeeds fetches next to nothing of what is here already, in whichever way that is
// said, and makes what casync makes.
func TestExtractSeeds(t *testing.T) {
	v := newVersions(t, 4<<20)
	o := serveDir(t, v.dir, origin.Options{})
	url := o.URL() + "/b.caibx"
	folder := t.TempDir()
	for name, b := range map[string][]byte{"x/disk": v.old, "y/one": v.old[:2<<20], "y/two": v.old[2<<20:]} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "cp", v.dir+"/a.caibx", folder+"/x/disk.caibx")
	for name, tt := range map[string]struct {
		args []string
		to   []byte // what is there before; nil: nothing
		want string // on standard error
	}{
		"a file":                  {[]string{"--seed=" + v.oldP}, nil, ""},
		"a directory":             {[]string{"--seed", folder + "/y"}, nil, ""},
		"an index and its data":   {[]string{"--seed", v.dir + "/a.caibx"}, nil, ""},
		"both":                    {[]string{"--seed", v.dir + "/a.caibx:" + folder + "/x/disk"}, nil, ""},
		"read rather than":        {[]string{"--regenerate-invalid-seeds", "--seed", v.dir + "/b.caibx:" + v.oldP}, nil, ""},
		"a folder of indexes":     {[]string{"--seed-dir", folder}, nil, ""},
		"itself":                  {nil, v.old, ""},
		"itself, in place":        {[]string{"-k"}, v.old, ""},
		"another one, in place":   {[]string{"-k", "--seed=" + v.oldP, "--seed-output=no"}, v.old[:500_000], ""},
		"with one that is broken": {[]string{"--seed=/dev/null", "--seed=none", "--seed=" + v.oldP}, nil, "seed cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out.img")
			if tt.to != nil {
				if err := os.WriteFile(out, tt.to, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			o.Reset()
			r := run(t, caravel, slices.Concat([]string{"extract", "--progress=none"}, tt.args, []string{url, out})...)
			if r.status != 0 || !strings.Contains(r.stderr, tt.want) {
				t.Fatalf("%+v", r)
			}
			holds(t, out, v.now)
			clean(t, dir, "out.img")
			all := int64(len(v.now)-4<<20/8) - v.fresh
			if n := chunksAsked(o); n*4096 > v.fresh+all/20 {
				t.Errorf("%d chunks fetched, %d bytes are new", n, v.fresh)
			}
		})
	}
	need(t, "casync")
	out := filepath.Join(t.TempDir(), "theirs")
	must(t, "casync", "extract", "--seed="+v.oldP, "--store="+v.dir+"/default.castr", v.dir+"/b.caibx", out)
	holds(t, out, v.now)
}

// TestExtractSeedsLikeDesync takes desync's words for seeds.
func TestExtractSeedsLikeDesync(t *testing.T) {
	v := newVersions(t, 2<<20)
	store := v.dir + "/default.castr"
	must(t, "cp", v.oldP, v.dir+"/a")
	if r := run(t, caravel, "extract", "--skip-invalid-seeds", "--regenerate-invalid-seeds", "-s", store, v.dir+"/b.caibx", v.dir+"/out"); r.status != 2 || !strings.Contains(r.stderr, "exclude one another") {
		t.Errorf("%+v", r)
	}
	for _, program := range []string{caravel, os.Getenv("DESYNC")} {
		for _, args := range [][]string{
			{"--seed", v.dir + "/a.caibx"},
			{"--seed", v.dir + "/a.caibx:" + v.oldP, "--skip-invalid-seeds"},
			{"--seed-dir", v.dir, "--regenerate-invalid-seeds"},
		} {
			if program == "" {
				continue
			}
			out := filepath.Join(t.TempDir(), "out")
			must(t, program, slices.Concat([]string{"extract", "-s", store}, args, []string{v.dir + "/b.caibx", out})...)
			holds(t, out, v.now)
		}
	}
}

// TestExtractDryRun tells what the run then does, and changes nothing.
func TestExtractDryRun(t *testing.T) {
	v := newVersions(t, 2<<20)
	o := serveDir(t, v.dir, origin.Options{})
	url := o.URL() + "/b.caibx"
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	for _, args := range [][]string{{"--seed=" + v.oldP, url, out}, {url, out}, {"-k", url, out}} {
		if args[0] != "--seed="+v.oldP {
			must(t, "cp", v.oldP, out)
		}
		const look = `cd "$0" && find . -exec stat -c '%n %i %Y %Z %s' {} + && cat -- * 2>/dev/null | sha256sum`
		before := must(t, "sh", "-c", look, dir)
		o.Reset()
		plan := extractJSON(t, append([]string{"--dry-run"}, args...)...)
		if n := chunksAsked(o); n > 0 {
			t.Errorf("%v: %d chunks were fetched", args, n)
		}
		if after := must(t, "sh", "-c", look, dir); after != before {
			t.Errorf("%v: %s, then %s", args, before, after)
		}
		text := must(t, caravel, append([]string{"extract", "--dry-run", "--progress=none"}, args...)...)
		if !regexp.MustCompile(`(?m)^to be fetched +[0-9]+ bytes in [0-9]+ chunks$`).MatchString(text) {
			t.Errorf("%s", text)
		}
		got := extractJSON(t, args...)
		got.Cloned = 0
		if got != plan {
			t.Errorf("%v: planned %+v, then %+v", args, plan, got)
		}
		holds(t, out, v.now)
	}
}

// TestExtractOntoADevice moves what a device holds to where it belongs.
func TestExtractOntoADevice(t *testing.T) {
	v := newVersions(t, 3<<20)
	device, file := loop(t, 4<<20)
	behind := read(t, file)[len(v.now):]
	o := serveDir(t, v.dir, origin.Options{})
	must(t, caravel, "extract", o.URL()+"/a.caibx", device)
	o.Reset()
	got := extractJSON(t, o.URL()+"/b.caibx", device)
	if got.Fetched > 3*v.fresh || got.Seeded < int64(len(v.now))/4 || chunksAsked(o) != got.Chunks.Fetched {
		t.Errorf("%+v of %d, %d requests", got, len(v.now), chunksAsked(o))
	}
	must(t, "sync")
	holds(t, file, slices.Concat(v.now, behind))

	// A device is a seed, too.
	out := filepath.Join(t.TempDir(), "out")
	if got := extractJSON(t, "--seed="+device, o.URL()+"/a.caibx", out); got.Fetched > 60_000 {
		t.Errorf("%+v", got)
	}
	holds(t, out, v.old)
}

// TestExtractSharesBlocks looks at what the file system says of a target with a seed.
func TestExtractSharesBlocks(t *testing.T) {
	for _, tt := range []struct {
		mkfs []string
		mb   int64
	}{
		{[]string{"mkfs.btrfs", "-q"}, 200},
		{[]string{"mkfs.xfs", "-q", "-m", "reflink=1"}, 320},
	} {
		t.Run(tt.mkfs[0], func(t *testing.T) {
			dir := loopMount(t, tt.mb, tt.mkfs...)
			need(t, "filefrag")
			const size = 24 << 20
			random(t, dir+"/a.img", size)
			b := read(t, dir+"/a.img")
			copy(b[5<<20:], bytes.Repeat([]byte("changed "), 1000))
			b = append(b, b[8<<20:12<<20]...) // a block-aligned repetition
			here := t.TempDir()
			if err := os.WriteFile(here+"/b.img", b, 0o644); err != nil {
				t.Fatal(err)
			}
			must(t, caravel, "make", "--no-sync", here+"/b.caibx", here+"/b.img")
			must(t, "sync")
			got := extractJSON(t, "--seed="+dir+"/a.img", here+"/b.caibx", dir+"/b.img")
			holds(t, dir+"/b.img", b)
			if got.Cloned < size*9/10 {
				t.Errorf("%+v", got)
			}
			frags := must(t, "filefrag", "-v", dir+"/b.img")
			shared := 0
			for _, m := range regexp.MustCompile(`(?m)^ *\d+: +\d+\.\. +\d+: +\d+\.\. +\d+: +(\d+):.*shared`).FindAllStringSubmatch(frags, -1) {
				blocks, err := strconv.Atoi(m[1])
				if err != nil {
					t.Fatal(err)
				}
				shared += blocks * 4096
			}
			if shared < size*9/10 {
				t.Errorf("%d bytes of %d are shared:\n%s", shared, size, frags)
			}
			got = extractJSON(t, "--reflink=no", "--seed="+dir+"/a.img", here+"/b.caibx", dir+"/c.img")
			holds(t, dir+"/c.img", b)
			if got.Cloned != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// loopMount is a file system of so many MiB, made by a command and mounted until the end of the
// test.
func loopMount(t *testing.T, mb int64, mkfs ...string) string {
	t.Helper()
	needRoot(t)
	need(t, mkfs[0], "mount", "losetup")
	file, dir := filepath.Join(t.TempDir(), "fs"), t.TempDir()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, mb<<20); err != nil {
		t.Fatal(err)
	}
	must(t, mkfs[0], append(mkfs[1:], file)...)
	if r := run(t, "mount", "-o", "loop", file, dir); r.status != 0 {
		t.Skipf("%s cannot be mounted here: %s", mkfs[0], r.stderr)
	}
	t.Cleanup(func() { must(t, "umount", dir) })
	return dir
}

// TestKillExtractWithSeeds kills extract at any moment, in each of its ways: the next run ends
// as if nothing had been, and nothing but the target has changed.
func TestKillExtractWithSeeds(t *testing.T) {
	v := newVersions(t, 6<<20)
	store := v.dir + "/default.castr"
	around := t.TempDir()
	seedPath := filepath.Join(around, "seed")
	must(t, "cp", v.oldP, seedPath)
	random(t, filepath.Join(around, "bystander"), 5000)
	out := filepath.Join(around, "out")
	whole := time.Duration(0)
	killed := 0
	for i := range times(20, 200) {
		ways := [][]string{{"--seed=" + seedPath}, {}, {"-k"}, {"-k", "--seed=" + seedPath}}
		args := slices.Concat([]string{"extract", "--progress=none", "--store=" + store}, ways[i%len(ways)], []string{v.dir + "/b.caibx", out})
		os.Remove(out)
		former := v.old
		if i%8 > 0 {
			must(t, "cp", v.oldP, out)
		} else {
			former = nil
		}
		if whole == 0 {
			began := time.Now()
			must(t, caravel, args...)
			whole = time.Since(began)
			os.Remove(out)
		}
		e := interrupt(t, syscall.SIGKILL, after(time.Duration(rand.Int64N(int64(whole)))), args...)
		if e.signal == syscall.SIGKILL {
			killed++
		}
		if got, err := os.ReadFile(out); !slices.Contains(args, "-k") && (err == nil || former != nil) {
			if err != nil || !bytes.Equal(got, former) && !bytes.Equal(got, v.now) {
				t.Fatalf("%v: the target has %d bytes, neither the former nor the new ones (%v)", args, len(got), err)
			}
		}
		must(t, caravel, args...)
		holds(t, out, v.now)
		clean(t, around, "out", "seed", "bystander")
	}
	holds(t, seedPath, v.old)
	if killed == 0 {
		t.Error("no run was killed")
	}
}
