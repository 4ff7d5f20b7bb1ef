//go:build linux

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// asReader in the environment makes the test binary a process that reads a file at
// random: its two paths, the seed and the number of reads.
const asReader = "INTEGRATION_READS"

func init() {
	if os.Getenv(asReader) == "" {
		return
	}
	if err := readsAtRandom(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// readsAtRandom compares a file with what it was made of as fsx does, without its
// writes: reads of all kinds at any place, and maps, with pages that were dropped.
func readsAtRandom(got, want, seed, count string) error {
	s, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(want)
	if err != nil {
		return err
	}
	f, err := os.Open(got)
	if err != nil {
		return err
	}
	defer f.Close()
	direct, err := os.OpenFile(got, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer direct.Close()
	rng := rand.New(rand.NewPCG(81, s))
	for i := range n {
		off := rng.Int64N(int64(len(data)))
		part := data[off:min(off+1+rng.Int64N(200_000), int64(len(data)))]
		b := make([]byte, len(part))
		switch kind := rng.IntN(5); kind {
		case 0, 1:
			_, err = f.ReadAt(b, off)
		case 2:
			err = mappedRead(f, b, off, rng.IntN(2) == 0)
		case 3:
			page := off &^ 4095
			p := make([]byte, len(b)+int(off-page))
			if _, err = direct.ReadAt(p, page); err == nil {
				copy(b, p[off-page:])
			}
		case 4:
			if err = unix.Fadvise(int(f.Fd()), off, int64(len(b)), unix.FADV_DONTNEED); err == nil {
				_, err = io.ReadFull(io.NewSectionReader(f, off, int64(len(b))), b)
			}
		}
		if err != nil || !bytes.Equal(b, part) {
			return fmt.Errorf("read %d: %d bytes at %d are others, or %w", i, len(b), off, err)
		}
	}
	return nil
}

// mappedRead copies from a map of the whole file.
func mappedRead(f *os.File, b []byte, off int64, drop bool) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(m)
	if drop {
		if err := unix.Madvise(m, unix.MADV_DONTNEED); err != nil {
			return err
		}
	}
	copy(b, m[off:])
	return nil
}

// TestMountTreeProcesses has many processes read the files of a mount at random.
func TestMountTreeProcesses(t *testing.T) {
	needFUSE(t)
	p := packTree(t, caravel, func(dir string) {
		for i, kind := range []string{"random", "sparse", "text"} {
			recipe{seed: uint64(i), size: 3_000_001 + i, kind: kind}.write(t, filepath.Join(dir, kind))
		}
	}, "--chunk-size=16K")
	m, dir := mountedTree(t, "--memory=1M", p.index)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = parallel(9, func(_ context.Context, i int) error {
		name := []string{"random", "sparse", "text"}[i%3]
		cmd := exec.Command(self, filepath.Join(dir, name), filepath.Join(p.source, name), strconv.Itoa(i), strconv.Itoa(times(150, 5000)))
		cmd.Env = append(os.Environ(), asReader+"=yes")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if text := m.stderr.String(); text != "" {
		t.Errorf("says %q", text)
	}
}
