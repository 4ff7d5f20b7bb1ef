package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/urfave/cli/v2"

	"caravel/store/diskcache"
)

// smallestCache is the least that a cache may have.
const smallestCache = 1 << 20

// noCache is what --cache-dir is given for no cache on disk.
const noCache = "none"

// diskOptions say where what comes over a network is kept.
type diskOptions struct {
	dir     string // "": the usual place; noCache: nowhere
	size    int64  // bytes that it may take
	offline bool   // nothing is asked for over a network
}

// diskFlags are for the commands that read something which may lie behind a
// network.
func diskFlags(opt *diskOptions) []cli.Flag {
	opt.size = 10 << 30
	return []cli.Flag{
		&cli.StringFlag{
			Name:        "cache-dir",
			Usage:       "keep what comes over a network in `DIR`, for all images and runs, but for chunks of what is read whole and once (extract, cat, digest, mtree); none: nowhere",
			DefaultText: usualCacheDir(),
			EnvVars:     []string{"CARAVEL_CACHE_DIR"},
			Destination: &opt.dir,
		},
		&cli.GenericFlag{
			Name:  "cache-size",
			Usage: "let the folder of --cache-dir grow to `SIZE`; what was not used for longest gives way",
			Value: sizeValue(&opt.size),
		},
		newSwitch("offline", "ask for nothing over a network: what is kept has to do, a sidecar as it is", &opt.offline),
	}
}

// usualCacheDir is where the cache is if nobody says it; "" if there is no such
// place.
func usualCacheDir() string {
	if runtime.GOOS == "linux" && os.Geteuid() == 0 {
		return "/var/cache/caravel"
	}
	dir, err := os.UserCacheDir() // $XDG_CACHE_HOME, ~/.cache or the platform's
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "caravel")
}

// openDisk opens the cache on disk; nil if there is to be none, or none can be
// had. Only a place that the user named and that holds other things is an error.
func openDisk(opt diskOptions, log *slog.Logger) (*diskcache.Cache, error) {
	if opt.dir == noCache {
		return nil, nil
	}
	dir, said := opt.dir, opt.dir != ""
	if !said {
		dir = usualCacheDir()
	}
	if dir == "" {
		log.Info("nothing is kept on disk: there is no usual place for it; --cache-dir names one")
		return nil, nil
	}
	if opt.size < smallestCache {
		return nil, usagef("--cache-size=%s: want %s or more", showSize(opt.size), showSize(smallestCache))
	}
	disk, err := diskcache.Open(dir, diskcache.Options{Size: opt.size, Log: log})
	switch {
	case err == nil:
		return disk, nil
	case errors.Is(err, errors.ErrUnsupported) && !said:
		return nil, nil // that is how it is here
	case said && !isSystems(err):
		return nil, err // a folder that is no cache, or is another's
	}
	log.Warn("nothing is kept on disk, only in memory", "err", err)
	return nil, nil
}

// isSystems reports whether it is the system that keeps a place from being used:
// no permission, a full or read-only disk.
func isSystems(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}
