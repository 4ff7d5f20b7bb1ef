//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"caravel/internal/origin"
)

// The links of the comparisons over a wide area, in bytes a second.
const (
	gigabit = 125e6
	slow    = gigabit / 10
	rtt     = 20 * time.Millisecond
)

// row prints one measure: what it is, what there is to reach, and what was.
func row(measure, goal, format string, args ...any) {
	fmt.Printf("  %-46s %-26s %s\n", measure, goal, fmt.Sprintf(format, args...))
}

// faraway shows www behind a link.
func (s *setting) faraway(bandwidth int64, change func(*origin.Options)) (*origin.Origin, error) {
	opt := origin.Options{RTT: rtt, Bandwidth: bandwidth}
	if change != nil {
		change(&opt)
	}
	return origin.Start(s.path("www"), opt)
}

// A mounted program is one that shows an image in mnt.
type mountedProgram struct {
	cmd   *exec.Cmd
	dir   string
	began time.Time // when it was started
	most  int64     // memory, in bytes; set when it ends
	said  bytes.Buffer
}

// mountBy starts a program that mounts something on the directory that is its
// last argument, and waits until it has. Its cache is that of the case.
func (s *setting) mountBy(args ...string) (*mountedProgram, error) {
	m := &mountedProgram{dir: s.path("mnt")}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, err
	}
	var before syscall.Stat_t
	if err := syscall.Stat(m.dir, &before); err != nil {
		return nil, err
	}
	m.cmd = exec.Command(args[0], append(args[1:], m.dir)...)
	m.cmd.Env = append(os.Environ(), "CARAVEL_CACHE_DIR="+s.path("cache"))
	m.cmd.Stderr = &m.said
	m.began = time.Now()
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	if err := mounted(m.dir, before.Dev); err != nil {
		_ = m.end()
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, m.said.String())
	}
	return m, nil
}

// end unmounts and returns what the program says against that. A peer's status
// is no figure.
func (m *mountedProgram) end() error {
	m.most = mostMemory(m.cmd.Process.Pid)
	err := m.cmd.Process.Signal(syscall.SIGTERM)
	return errors.Join(err, ignoreExit(m.cmd.Wait()))
}

func ignoreExit(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}

// processor is what the program has used, in seconds, once it has ended.
func (m *mountedProgram) processor() float64 {
	u := m.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// peak is its most memory, in MiB.
func (m *mountedProgram) peak() int64 { return m.most >> 20 }

// mostMemory is the most that a process has had, in bytes; 0 if it has ended. Of a
// child, what rusage says begins with its parent's.
func mostMemory(pid int) (n int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		return 0
	}
	return n << 10
}

// runsOf is how often a program does its work: a peer, which may take a minute,
// once.
func (s *setting) runsOf(program string) int {
	if program != s.bin {
		return 1
	}
	return s.runs
}

// cold has the next run begin without what earlier ones have kept on disk, which
// stays aside, see afresh.
func (s *setting) cold() error { return setAside(s.path("cache")) }

// onlyFile is the path of the one file in a mount.
func (m *mountedProgram) onlyFile() (string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return "", err
	}
	if len(entries) != 1 {
		return "", fmt.Errorf("%d files in %s", len(entries), m.dir)
	}
	return filepath.Join(m.dir, entries[0].Name()), nil
}

// readFirst reads the first n bytes of a file in pieces of 1 MiB; n < 0: all.
func readFirst(path string, n int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var r io.Reader = f
	if n >= 0 {
		r = io.LimitReader(f, n)
	}
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 1<<20))
}

// settled waits until nothing has been asked of an origin for a while, and
// returns when the last request came, from began on.
func settled(o *origin.Origin, began time.Time, quiet time.Duration) time.Duration {
	last, at := int64(-1), began
	for {
		c := o.Counts()
		if sum := c.Requests + c.Bytes; sum != last {
			last, at = sum, time.Now()
		}
		if time.Since(at) > quiet {
			return at.Sub(began)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
