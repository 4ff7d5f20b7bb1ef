package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/catalog"
	"caravel/chunker"
	"caravel/internal/progress"
	"caravel/store"
)

// try runs a command with flags, all the way through the app, and returns what
// it wrote to stderr and its exit status.
func try(t *testing.T, flags []cli.Flag, args ...string) (stderr string, status int) {
	t.Helper()
	var out bytes.Buffer
	cmd := &cli.Command{Name: "try", Flags: flags, Action: func(*cli.Context) error { return nil }}
	app := newAppOf([]*cli.Command{cmd}, strings.NewReader(""), io.Discard, &out)
	status = run(t.Context(), app, append([]string{"try"}, args...))
	return out.String(), status
}

const hex64 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// TestFlagTypes sets one flag, --flag or -f, from what the user typed.
func TestFlagTypes(t *testing.T) {
	type made struct {
		flag cli.Flag
		got  func() any // what the variable holds
	}
	generic := func(v cli.Generic, got func() any) made {
		return made{&cli.GenericFlag{Name: "flag", Aliases: []string{"f"}, Value: v}, got}
	}
	id, err := chunker.ParseID(hex64)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]func() made{
		"switch": func() made {
			var v bool
			return made{newSwitch("flag", "", &v, "f"), func() any { return v }}
		},
		"switch that is on": func() made {
			v := true
			return made{newSwitch("flag", "", &v, "f"), func() any { return v }}
		},
		"list": func() made {
			var v []string
			return made{newList("flag", "", &v, "f"), func() any { return v }}
		},
		"size":     func() made { var v int64; return generic(sizeValue(&v), func() any { return v }) },
		"duration": func() made { var v time.Duration; return generic(durationValue(&v), func() any { return v }) },
		"workers":  func() made { var v int; return generic(workersValue(&v), func() any { return v }) },
		"digest":   func() made { var v chunker.Digest; return generic(digestValue(&v), func() any { return v }) },
		"mode":     func() made { var v progress.Mode; return generic(modeValue(&v), func() any { return v }) },
		"level":    func() made { var v slog.Level; return generic(logLevelValue(&v), func() any { return v }) },
		"packing":  func() made { var v store.Form; return generic(compressionValue(&v), func() any { return v }) },
		"pin":      func() made { v := new(catalog.Pin); return generic(pinValue(&v), func() any { return *v }) },
	}
	tests := []struct {
		kind, typed string
		want        any // nil: an error
	}{
		{"switch", "", false},
		{"switch", "--flag", true},
		{"switch", "-f", true},
		{"switch", "--flag=yes", true},
		{"switch", "--flag=on", true},
		{"switch", "-f=1", true},
		{"switch", "--flag --flag=no", false},
		{"switch", "--flag=maybe", nil},
		{"switch", "--flag=", nil},
		{"switch that is on", "", true},
		{"switch that is on", "--flag=no", false},
		{"switch that is on", "-f=0", false},
		{"switch that is on", "--flag=off", false},
		{"switch that is on", "--flag=f", false},
		{"list", "--flag a,b -f c --flag=", []string{"a,b", "c", ""}},
		{"list", "-f a", []string{"a"}},
		{"size", "-f 64M", int64(64 << 20)},
		{"size", "--flag=1.5K", int64(1536)},
		{"size", "--flag 0", int64(0)},
		{"size", "--flag -1", nil},
		{"size", "--flag 64m", nil},
		{"duration", "-f 60s", time.Minute},
		{"duration", "--flag=1m30s", 90 * time.Second},
		{"duration", "--flag 90", 90 * time.Second},
		{"duration", "--flag 0", time.Duration(0)},
		{"duration", "--flag -1s", nil},
		{"duration", "--flag 99999999999999", nil},
		{"duration", "--flag soon", nil},
		{"workers", "-f8", 8},
		{"workers", "--flag 1", 1},
		{"workers", "--flag 0", nil},
		{"workers", "--flag -1", nil},
		{"workers", "--flag 1000000", nil},
		{"workers", "--flag x", nil},
		{"digest", "--flag sha256", chunker.SHA256},
		{"digest", "--flag default", chunker.SHA512_256},
		{"digest", "--flag md5", nil},
		{"mode", "--flag json", progress.JSON},
		{"mode", "--flag parsable", nil},
		{"level", "--flag debug", slog.LevelDebug},
		{"level", "-f 7", slog.LevelDebug},
		{"level", "--flag 6", slog.LevelInfo},
		{"level", "--flag warning", slog.LevelWarn},
		{"level", "--flag 3", slog.LevelError},
		{"level", "--flag emerg", slog.LevelError + 12},
		{"level", "--flag 8", nil},
		{"level", "--flag -1", nil},
		{"level", "--flag loud", nil},
		{"packing", "--flag=xz:9", store.Form{Compression: store.XZ, Level: 9}},
		{"packing", "--flag=default", store.Form{}},
		{"packing", "--flag=bzip2", nil},
		{"pin", "--flag " + hex64, catalog.Pin{Digest: chunker.SHA512_256, ID: id}},
		{"pin", "--flag=sha256:" + hex64, catalog.Pin{Digest: chunker.SHA256, ID: id}},
		{"pin", "--flag=md5:" + hex64, nil},
		{"pin", "--flag=" + hex64[1:], nil},
	}
	for _, tt := range tests {
		t.Run(tt.kind+" "+tt.typed, func(t *testing.T) {
			m := kinds[tt.kind]()
			stderr, status := try(t, []cli.Flag{m.flag}, strings.Fields(tt.typed)...)
			if tt.want == nil {
				if status != exitUsage || !strings.HasPrefix(stderr, "caravel: try: invalid value ") ||
					!strings.Contains(stderr, " for --flag: ") || strings.Count(stderr, "\n") != 1 {
					t.Errorf("exit status %d, %s", status, stderr)
				}
				return
			}
			if status != exitDone || fmt.Sprint(m.got()) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, exit status %d, %s", m.got(), status, stderr)
			}
		})
	}
}

func TestSwitchIsSet(t *testing.T) {
	for typed, want := range map[string]bool{"": false, "--delete": true, "--delete=no": true, "-d=yes": true} {
		var set bool
		cmd := &cli.Command{
			Name:   "try",
			Flags:  []cli.Flag{newSwitch("delete", "", new(bool), "d")},
			Action: func(c *cli.Context) error { set = c.IsSet("delete"); return nil },
		}
		app := newAppOf([]*cli.Command{cmd}, strings.NewReader(""), io.Discard, io.Discard)
		if status := run(t.Context(), app, append([]string{"try"}, strings.Fields(typed)...)); status != exitDone || set != want {
			t.Errorf("%q: set %v, want %v; exit status %d", typed, set, want, status)
		}
	}
}

func TestFlagHelp(t *testing.T) {
	on, memory := true, int64(64<<20)
	flags := []cli.Flag{
		newSwitch("off", "be off", new(bool)),
		newSwitch("on", "be on", &on, "o"),
		&cli.GenericFlag{Name: "memory", Usage: "use `SIZE`", Value: sizeValue(&memory)},
		&cli.GenericFlag{Name: "jobs", Usage: "`N` at once", Value: workersValue(new(int))},
	}
	want := []string{"--off\tbe off", "--on, -o\tbe on (default: yes)", "--memory SIZE\tuse SIZE (default: 64M)", "--jobs N\tN at once"}
	for i, f := range flags {
		if got := f.String(); got != want[i] {
			t.Errorf("got %q, want %q", got, want[i])
		}
	}
}

func TestShow(t *testing.T) {
	for n, want := range map[int64]string{0: "", 1: "1", 1023: "1023", 1024: "1K", 1536: "1536", 64 << 20: "64M", 1 << 50: "1024T"} {
		if got := showSize(n); got != want {
			t.Errorf("size %d: got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Minute: "60s", 1500 * time.Millisecond: "1.5s"} {
		if got := showDuration(d); got != want {
			t.Errorf("duration %v: got %q, want %q", d, got, want)
		}
	}
	for _, w := range logWords() {
		if got := showLogLevel(w.level); got != w.word {
			t.Errorf("level %v: got %q, want %q", w.level, got, w.word)
		}
	}
}

func TestChunkSize(t *testing.T) {
	const hint = "caravel: --chunk-size=16:64:256 is read as bytes; if KiB are meant, say -m 16:64:256\n"
	tests := []struct {
		typed  string
		want   chunker.Params // zero: an error
		stderr string
	}{
		{"", chunker.DefaultParams(), ""},
		{"--chunk-size 64K", chunker.DefaultParams(), ""},
		{"--chunk-size auto", chunker.DefaultParams(), ""},
		{"--chunk-size=1K:4K:16K", chunker.Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10}, ""},
		{"--chunk-size 16:64:256", chunker.Params{Min: 16, Avg: 64, Max: 256}, hint},
		{"--chunk-size 16:64:1024", chunker.Params{Min: 16, Avg: 64, Max: 1024}, ""},
		{"--chunk-size 256", chunker.Params{Min: 64, Avg: 256, Max: 1024}, ""},
		{"-m 16:64:256", chunker.DefaultParams(), ""},
		{"-m1:2:3", chunker.Params{Min: 1 << 10, Avg: 2 << 10, Max: 3 << 10}, ""},
		{"-m 1:2:3 --chunk-size 4K:4K:4K", chunker.Params{Min: 4 << 10, Avg: 4 << 10, Max: 4 << 10}, ""},
		{"--chunk-size 4K:4K:4K -m 1:2:3", chunker.Params{Min: 1 << 10, Avg: 2 << 10, Max: 3 << 10}, ""},
		{"-m 64", chunker.Params{}, ""},
		{"-m 16K:64K:256K", chunker.Params{}, ""},
		{"-m 256:64:16", chunker.Params{}, ""},
		{"-m 0:1:2", chunker.Params{}, ""},
		{"-m 1:2:9223372036854775807", chunker.Params{}, ""},
		{"--chunk-size 64K:16K:4K", chunker.Params{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.typed, func(t *testing.T) {
			got := chunker.DefaultParams()
			stderr, status := try(t, chunkSizeFlags(&got), strings.Fields(tt.typed)...)
			if tt.want == (chunker.Params{}) {
				if status != exitUsage || !strings.Contains(stderr, " for "+strings.Fields(tt.typed)[0]+": ") {
					t.Errorf("got %v, exit status %d, %s", got, status, stderr)
				}
				return
			}
			if got != tt.want || status != exitDone || stderr != tt.stderr {
				t.Errorf("got %v, want %v; exit status %d, %s", got, tt.want, status, stderr)
			}
		})
	}
}

// TestSliceFlagKeepsCommas is about urfave/cli's own slices, should a command
// use one.
func TestSliceFlagKeepsCommas(t *testing.T) {
	var got cli.StringSlice
	if stderr, status := try(t, []cli.Flag{&cli.StringSliceFlag{Name: "seed", Destination: &got}}, "--seed", "a,b", "--seed=c"); status != exitDone {
		t.Fatal(stderr)
	}
	if !slices.Equal(got.Value(), []string{"a,b", "c"}) {
		t.Errorf("got %q", got.Value())
	}
}
