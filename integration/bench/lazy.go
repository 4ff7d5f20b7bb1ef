//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"caravel/internal/origin"
)

// A reading is a way to read a mounted image; it returns how many bytes it got.
type reading struct {
	name string
	read func(path string) (int64, error)
}

func readings() []reading {
	return []reading{
		{"whole, in order", func(path string) (int64, error) {
			f, err := os.Open(path)
			if err != nil {
				return 0, err
			}
			defer f.Close()
			return io.CopyBuffer(struct{ io.Writer }{io.Discard}, f, make([]byte, 1<<20))
		}},
		{"200 times 4 KiB at random", func(path string) (int64, error) { return scattered(path, 200, 4096) }},
		{"50 times 256 KiB at random", func(path string) (int64, error) { return scattered(path, 50, 256<<10) }},
	}
}

// scattered reads the same places in each run.
func scattered(path string, count, size int) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	places := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, size)
	for range count {
		if _, err := f.ReadAt(b, places.Int64N(st.Size()-int64(size))&^4095); err != nil {
			return 0, err
		}
	}
	return int64(count) * int64(size), nil
}

// mounts reads a freshly mounted, cold image each time: after one reading
// nothing is left in memory.
func (s *setting) mounts() error {
	for _, link := range []struct {
		name string
		opt  origin.Options
	}{
		{"20 ms away", origin.Options{RTT: 20 * time.Millisecond}},
		{"20 ms away, 1 Gbit/s", origin.Options{RTT: 20 * time.Millisecond, Bandwidth: 125e6}},
	} {
		o, err := origin.Start(s.path("www"), link.opt)
		if err != nil {
			return err
		}
		x, st := o.URL()+"/disk.caibx", o.URL()+"/default.castr"
		fmt.Printf("\nmount over HTTP, %s, cold; from the start of the program\n", link.name)
		for _, r := range readings() {
			err := s.readMounted(o, "caravel", r, s.bin, "mount", x)
			if err == nil && s.desync != "" {
				err = s.readMounted(o, "desync", r, s.desync, "mount-index", "-s", st, x)
			}
			if err != nil {
				return err
			}
		}
		if err := o.Close(); err != nil {
			return err
		}
	}
	return nil
}

// readMounted runs a mounting program for one reading.
func (s *setting) readMounted(o *origin.Origin, name string, r reading, program string, args ...string) error {
	mnt := s.path("mnt")
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return err
	}
	o.Reset()
	began := time.Now()
	cmd := exec.Command(program, append(args, mnt)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	path, err := appears(mnt)
	var n int64
	if err == nil {
		n, err = r.read(path)
	}
	took := time.Since(began).Seconds()
	if stopErr := cmd.Process.Signal(syscall.SIGTERM); err == nil {
		err = stopErr
	}
	_ = cmd.Wait() // desync's status is no figure
	if err != nil {
		return fmt.Errorf("%s, %s: %w", name, r.name, err)
	}
	c := o.Counts()
	rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	fmt.Printf("  %-10s %-28s %7.2f s  %6.1f MB/s  %5d requests  %6.1f MB  %4d MiB\n", name, r.name, took, float64(n)/1e6/took, c.Requests, float64(c.Bytes)/1e6, rss>>10)
	return nil
}

// appears waits until the mounted file is there.
func appears(mnt string) (string, error) {
	for range 3000 {
		if entries, err := os.ReadDir(mnt); err == nil && len(entries) == 1 {
			return mnt + "/" + entries[0].Name(), nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return "", fmt.Errorf("nothing appears in %s", mnt)
}

// nbd reads the export whole and at random, with many requests in flight as
// its clients have.
func (s *setting) nbd() error {
	o, err := origin.Start(s.path("www"), origin.Options{RTT: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	defer o.Close()
	fmt.Printf("\nNBD over HTTP, 20 ms away, cold; from the start of the program (no peer has this)\n")
	uri := "nbd+unix:///?socket=" + s.path("nbd.sock")
	for _, c := range []struct {
		name string
		args []string
	}{
		{"nbdcopy, whole", []string{"nbdcopy", uri, "null:"}},
		{"fio, 200 times 4 KiB, one at a time", fio(uri, 1, 200)},
		{"fio, 2000 times 4 KiB, 64 at a time", fio(uri, 64, 2000)},
	} {
		if _, err := exec.LookPath(c.args[0]); err != nil {
			fmt.Printf("  %s: not installed\n", c.args[0])
			continue
		}
		if err := s.readServed(o, c.name, c.args, o.URL()+"/disk.caibx"); err != nil {
			return err
		}
	}
	return nil
}

func fio(uri string, depth, count int) []string {
	return []string{"fio", "--name=r", "--ioengine=nbd", "--uri=" + uri, "--rw=randread", "--bs=4k",
		fmt.Sprintf("--iodepth=%d", depth), fmt.Sprintf("--number_ios=%d", count), "--randseed=7", "--output-format=terse"}
}

func (s *setting) readServed(o *origin.Origin, name string, client []string, x string) error {
	o.Reset()
	began := time.Now()
	cmd := exec.Command(s.bin, "nbd-server", "--socket", s.path("nbd.sock"), x)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "Serving:") {
		err = fmt.Errorf("nbd-server says %q", line)
	}
	if err == nil {
		_, _, err = timed(client)
	}
	took := time.Since(began).Seconds()
	if stopErr := cmd.Process.Signal(syscall.SIGTERM); err == nil {
		err = stopErr
	}
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	c := o.Counts()
	fmt.Printf("  %-38s %7.2f s  %5d requests  %6.1f MB\n", name, took, c.Requests, float64(c.Bytes)/1e6)
	return err
}
