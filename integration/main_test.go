// Package integration tests caravel from outside: the binary beside its peers,
// real servers and clients, faults and kills. What a test needs and the machine
// has not is named when the test is skipped; integration/setup installs it.
package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// caravel is the binary under test.
var caravel string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "caravel-integration")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// In a virtual machine there is one already, and building is slow.
	if caravel = os.Getenv("CARAVEL"); caravel == "" {
		caravel = filepath.Join(dir, "caravel")
		build := exec.Command("go", "build", "-o", caravel, "caravel/cmd/caravel")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			os.Exit(1)
		}
	}
	// What the user's environment says of stores must not reach the tests.
	for _, name := range []string{"CASYNC_STORE", "CASYNC_VERBOSE", "CASYNC_LOG_LEVEL", "CASYNC_COMPRESSED_CHUNK_SUFFIX", "NOTIFY_SOCKET"} {
		os.Unsetenv(name)
	}
	os.Setenv("CARAVEL_CONFIG", "none") // nor what the user has configured
	os.Setenv("NETRC", os.DevNull)
	os.Setenv("CARAVEL_CACHE_DIR", "none") // of those that do not say where
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// long reports whether tests that repeat run at their full length.
func long() bool { return os.Getenv("CARAVEL_LONG") != "" }

// times is how often a test repeats: few times in every run, many in a long one.
func times(few, many int) int {
	if long() {
		return many
	}
	return few
}

// need skips the test if a program is missing.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// needRoot skips the test for anybody else.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
}

// needFUSE skips the test where nothing can be mounted.
func needFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	f.Close()
	if os.Geteuid() != 0 {
		need(t, "fusermount3")
	}
}

// desync is the path of the peer's binary; the test is skipped without it.
func desync(t testing.TB) string {
	t.Helper()
	path := os.Getenv("DESYNC")
	if path == "" {
		t.Skip("$DESYNC does not name a desync binary")
	}
	return path
}

// A result is how a command ended.
type result struct {
	stdout, stderr string
	status         int
}

// run runs a command to its end, at most a minute.
func run(t testing.TB, name string, args ...string) result {
	t.Helper()
	return runWith(t, nil, name, args...)
}

// runWith runs a command that setup has looked at.
func runWith(t testing.TB, setup func(*exec.Cmd), name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(times(11, 60))*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second // a child of its may hold them
	if setup != nil {
		setup(cmd)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s %s: hangs; so far: %s%s", name, strings.Join(args, " "), stdout.String(), stderr.String())
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed and returns its standard output.
func must(t testing.TB, name string, args ...string) string {
	t.Helper()
	r := run(t, name, args...)
	if r.status != 0 {
		t.Fatalf("%s %s: status %d\n%s%s", filepath.Base(name), strings.Join(args, " "), r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// A daemon is a command that runs until it is told to end.
type daemon struct {
	t      testing.TB
	cmd    *exec.Cmd
	stderr *lockedBuffer
	lines  chan string // of its standard output
	exited chan struct{}
}

// start runs a command in the background. It is killed at the end of the test
// if stop was not called.
func start(t testing.TB, name string, args ...string) *daemon {
	t.Helper()
	return startWith(t, nil, name, args...)
}

// startWith is start for a command that setup has looked at.
func startWith(t testing.TB, setup func(*exec.Cmd), name string, args ...string) *daemon {
	t.Helper()
	d := &daemon{
		t:      t,
		cmd:    exec.Command(name, args...),
		stderr: &lockedBuffer{},
		lines:  make(chan string, 100),
		exited: make(chan struct{}),
	}
	d.cmd.Stdout, d.cmd.Stderr = lineWriter(d.lines), d.stderr
	if setup != nil {
		setup(d.cmd)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait() // the state is in cmd.ProcessState
		close(d.exited)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.exited
	})
	return d
}

// line waits for the next line of standard output.
func (d *daemon) line() string {
	d.t.Helper()
	select {
	case l := <-d.lines:
		return l
	case <-d.exited:
		d.t.Fatalf("%v ended early: %s", d.cmd.Args, d.stderr)
	case <-time.After(time.Minute):
		d.t.Fatalf("%v says nothing; stderr: %s", d.cmd.Args, d.stderr)
	}
	return ""
}

// stop sends a signal, waits for the end and returns the exit status.
func (d *daemon) stop(sig syscall.Signal) int {
	d.t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Fatalf("%v: %v; stderr: %s", d.cmd.Args, err, d.stderr)
	}
	return d.wait()
}

// wait waits for the end and returns the exit status.
func (d *daemon) wait() int {
	d.t.Helper()
	select {
	case <-d.exited:
	case <-time.After(time.Minute):
		d.t.Fatalf("%v does not end; stderr: %s", d.cmd.Args, d.stderr)
	}
	return d.cmd.ProcessState.ExitCode()
}
