package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"caravel/catalog"
	"caravel/chunker"
)

func TestLazyFlags(t *testing.T) {
	usual := func() lazyOptions {
		var o lazyOptions
		lazyFlags(&o)
		o.source.disk.dir = noCache // of the environment, see TestMain
		return o
	}
	with := func(change func(o *lazyOptions)) lazyOptions {
		o := usual()
		change(&o)
		return o
	}
	for typed, want := range map[string]lazyOptions{
		"":                                      usual(),
		"--no-sweep --metered=no":               with(func(o *lazyOptions) { o.noSweep = true }),
		"--metered --sweep-rate 1.5M":           with(func(o *lazyOptions) { o.metered, o.sweepRate = true, 3<<19 }),
		"--record r --profile=none":             with(func(o *lazyOptions) { o.record, o.profile = "r", profileNone }),
		"--profile p --materialize=yes":         with(func(o *lazyOptions) { o.profile, o.materialize = "p", materializeYes }),
		"--stats --stats-file f":                with(func(o *lazyOptions) { o.stats, o.statsFile = true, "f" }),
		"--cache-dir d --cache-size 1T":         with(func(o *lazyOptions) { o.source.disk.dir, o.source.disk.size = "d", 1<<40 }),
		"--offline --cache-dir=none --memory 1": with(func(o *lazyOptions) { o.source.disk.offline, o.source.memory = true, 1 }),
	} {
		var got lazyOptions
		stderr, status := try(t, lazyFlags(&got), strings.Fields(typed)...)
		if status != exitDone {
			t.Errorf("%q: exit status %d, %s", typed, status, stderr)
		}
		if got.noSweep != want.noSweep || got.metered != want.metered || got.sweepRate != want.sweepRate ||
			got.record != want.record || got.profile != want.profile || got.materialize != want.materialize ||
			got.stats != want.stats || got.statsFile != want.statsFile || got.source.disk != want.source.disk ||
			got.source.memory != want.source.memory {
			t.Errorf("%q: got %+v, want %+v", typed, got, want)
		}
	}
	for _, typed := range []string{"--sweep-rate fast", "--cache-size", "--offline=perhaps", "--record"} {
		if stderr, status := try(t, lazyFlags(new(lazyOptions)), strings.Fields(typed)...); status != exitUsage {
			t.Errorf("%q: exit status %d, %s", typed, status, stderr)
		}
	}
}

func TestWhatIsOfOneImage(t *testing.T) {
	for typed, want := range map[string]bool{
		"": false, "--profile=auto": false, "--profile=none": false, "--materialize=yes": false, "--materialize=no": false,
		"--profile=p": true, "--record=r": true, "--materialize=m": true, "--materialize=./yes": true,
	} {
		var o lazyOptions
		if stderr, status := try(t, lazyFlags(&o), strings.Fields(typed)...); status != exitDone || (o.ofOneImage() != "") != want {
			t.Errorf("%q: of one image: %q; exit status %d, %s", typed, o.ofOneImage(), status, stderr)
		}
	}
}

func TestTreeFlags(t *testing.T) {
	pin := &catalog.Pin{Digest: chunker.SHA512_256}
	for _, tt := range []struct {
		opt  sourceOptions
		want string
	}{
		{sourceOptions{}, treeSuffix},
		{sourceOptions{treePin: pin}, treeSuffix},
		{sourceOptions{pin: pin, treePin: pin}, treeSuffix},
		{sourceOptions{pin: pin}, ""},
		{sourceOptions{noTree: true}, ""},
		{sourceOptions{noTree: true, treePin: pin}, ""},
	} {
		if got := strings.Join(tt.opt.treeSide(), " "); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.opt, got, tt.want)
		}
	}
	var got sourceOptions
	stderr, status := try(t, treeFlags(&got), "--no-tree", "--tree-digest", strings.Repeat("0", 64))
	if status != exitDone || !got.noTree || *got.treePin != *pin {
		t.Errorf("got %+v; exit status %d, %s", got, status, stderr)
	}
}

func TestUsualCacheDir(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home)
	want := filepath.Join(home, "caravel")
	if os.Geteuid() == 0 {
		want = "/var/cache/caravel"
	}
	if got := usualCacheDir(); got != want && runtime.GOOS == "linux" {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOpenDisk(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no cache on disk there")
	}
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		dir    string
		opens  bool
		fails  bool
		saying string
	}{
		{noCache, false, false, ""},
		{filepath.Join(t.TempDir(), "a", "b"), true, false, ""},
		{full, false, true, ""},
		{filepath.Join(full, "file"), false, false, "nothing is kept on disk"},
	} {
		said.Reset()
		disk, err := openDisk(diskOptions{dir: tt.dir, size: 1 << 20}, log)
		if (disk != nil) != tt.opens || (err != nil) != tt.fails || !strings.Contains(said.String(), tt.saying) || (said.Len() > 0) != (tt.saying != "") {
			t.Errorf("%s: %v, %v, says %q", tt.dir, disk, err, said.String())
		}
		if disk != nil {
			disk.Close()
		}
	}
}
