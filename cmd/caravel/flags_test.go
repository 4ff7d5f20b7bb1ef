package main

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/internal/progress"
)

func TestSourceFlags(t *testing.T) {
	tests := []struct {
		name, env, typed string
		want             sourceOptions
	}{
		{"nothing", "", "", sourceOptions{timeout: time.Minute, memory: 64 << 20}},
		{"stores in order", "", "--extra-store d -s a,b --store=c --extra-store e",
			sourceOptions{stores: []string{"a,b", "c"}, extraStores: []string{"d", "e"}, timeout: time.Minute, memory: 64 << 20}},
		{"store of the environment", "/srv/a,b", "--extra-store d",
			sourceOptions{stores: []string{"/srv/a,b"}, extraStores: []string{"d"}, timeout: time.Minute, memory: 64 << 20}},
		{"store said instead", "/srv/a", "-s b -s c",
			sourceOptions{stores: []string{"b", "c"}, timeout: time.Minute, memory: 64 << 20}},
		{"the rest", "", "-c /var/c --timeout 0 --memory 1G -n 3",
			sourceOptions{cache: "/var/c", memory: 1 << 30, workers: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CASYNC_STORE", tt.env)
			var got sourceOptions
			if stderr, status := try(t, sourceFlags(&got), strings.Fields(tt.typed)...); status != exitDone {
				t.Fatal(stderr)
			}
			if !slices.Equal(got.stores, tt.want.stores) || !slices.Equal(got.extraStores, tt.want.extraStores) {
				t.Errorf("got stores %q, %q", got.stores, got.extraStores)
			}
			if all := got.allStores(); !slices.Equal(all, append(tt.want.stores, tt.want.extraStores...)) {
				t.Errorf("got all stores %q", all)
			}
			if got.cache != tt.want.cache || got.pin != nil || got.timeout != tt.want.timeout ||
				got.memory != tt.want.memory || got.workers != tt.want.workers {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestLogFlags(t *testing.T) {
	tests := []struct {
		name, level, verbose, typed string
		want                        logOptions
	}{
		{"nothing", "", "", "", logOptions{}},
		{"said", "", "", "-l debug -v", logOptions{slog.LevelDebug, true}},
		{"number", "", "", "--log-level=4", logOptions{slog.LevelWarn, false}},
		{"environment", "err", "1", "", logOptions{slog.LevelError, true}},
		{"said instead", "err", "1", "-l7 --verbose=no", logOptions{slog.LevelDebug, false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CASYNC_LOG_LEVEL", tt.level)
			t.Setenv("CASYNC_VERBOSE", tt.verbose)
			var got logOptions
			if stderr, status := try(t, logFlags(&got), strings.Fields(tt.typed)...); status != exitDone || got != tt.want {
				t.Errorf("got %+v, want %+v; exit status %d, %s", got, tt.want, status, stderr)
			}
		})
	}
	t.Run("bad environment", func(t *testing.T) {
		t.Setenv("CASYNC_LOG_LEVEL", "loud")
		stderr, status := try(t, logFlags(new(logOptions)))
		if status != exitUsage || !strings.Contains(stderr, "CASYNC_LOG_LEVEL") {
			t.Errorf("exit status %d, %s", status, stderr)
		}
	})
	t.Run("-l is something else", func(t *testing.T) {
		if stderr, status := try(t, longLogFlags(new(logOptions)), "-l", "debug"); status != exitUsage {
			t.Errorf("exit status %d, %s", status, stderr)
		}
	})
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := logOptions{level: slog.LevelWarn}.logger(&out)
	log.Info("left out")
	log.Warn("store skipped", "store", "http://host/")
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="store skipped" store=http://host/`) {
		t.Errorf("got %s", got)
	}
}

func TestProgressFlag(t *testing.T) {
	tests := []struct {
		parsable, bar, typed string
		want                 progress.Mode
	}{
		{"", "", "", progress.Auto},
		{"1", "", "", progress.Parsable},
		{"", "1", "", progress.Bar},
		{"1", "1", "", progress.Parsable},
		{"1", "1", "--progress=none", progress.None},
		{"", "", "--progress json", progress.JSON},
	}
	for _, tt := range tests {
		t.Setenv("DESYNC_ENABLE_PARSABLE_PROGRESS", tt.parsable)
		t.Setenv("DESYNC_PROGRESSBAR_ENABLED", tt.bar)
		mode := progress.None
		stderr, status := try(t, []cli.Flag{progressFlag(&mode)}, strings.Fields(tt.typed)...)
		if status != exitDone || mode != tt.want {
			t.Errorf("%+v: got %v, exit status %d, %s", tt, mode, status, stderr)
		}
	}
}
