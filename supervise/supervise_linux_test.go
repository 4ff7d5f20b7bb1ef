package supervise_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/supervise"
)

// The test binary is the worker, too. It says on standard output which one it is
// and what it was left.
func TestMain(m *testing.M) {
	if how := os.Getenv("WORKER"); how != "" {
		os.Exit(work(how))
	}
	os.Exit(m.Run())
}

func work(how string) int {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	s, err := supervise.Find()
	if err != nil || s == nil {
		fmt.Println("no supervisor", err)
		return 3
	}
	n, _ := strconv.Atoi(string(s.Legacy.State))
	fmt.Printf("worker %d pid %d files %d", n, os.Getpid(), len(s.Legacy.Files))
	for _, f := range s.Legacy.Files {
		b, _ := io.ReadAll(io.NewSectionReader(f, 0, 100))
		fmt.Printf(" %q", b)
	}
	fmt.Println()
	if how == "unwell" {
		return 4
	}
	f, err := os.CreateTemp("", "left")
	if err != nil {
		return 3
	}
	os.Remove(f.Name())
	fmt.Fprintf(f, "of %d", n)
	l := supervise.Legacy{State: []byte(strconv.Itoa(n + 1)), Files: []*os.File{f}}
	if l.Keep = how == "keeps" && n < 3; l.Keep && n > 0 {
		l.Files = s.Legacy.Files
	}
	if err := s.Leave(l); err != nil {
		fmt.Println(err)
		return 3
	}
	fmt.Println("well")
	switch {
	case how == "done":
		return 0
	case how == "panics" && n < 3:
		panic("now")
	}
	for refused := false; ; {
		select {
		case <-s.GiveWay():
			if how == "refuses" && !refused {
				refused = true
				fmt.Println("stays", s.Stay())
				continue
			}
			return 0
		case <-asked:
			fmt.Println("asked")
		case <-terminated:
			if how == "refuses" {
				return 0
			}
			return 5
		}
	}
}

// A run is a supervisor in this process.
type run struct {
	t       *testing.T
	lines   *bufio.Scanner
	replace chan os.Signal
	forward chan os.Signal
	cancel  context.CancelFunc
	done    chan error
}

func start(t *testing.T, how string) *run {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close(); in.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	r := &run{t, bufio.NewScanner(out), make(chan os.Signal), make(chan os.Signal), cancel, make(chan error, 1)}
	command := func() *exec.Cmd {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "WORKER="+how)
		c.Stdout, c.Stderr = in, io.Discard
		return c
	}
	go func() {
		r.done <- supervise.Run(ctx, command, supervise.Options{Replace: r.replace, Forward: r.forward, Pause: time.Millisecond})
	}()
	return r
}

// line reads the next line of the workers.
func (r *run) line() string {
	r.t.Helper()
	if !r.lines.Scan() {
		r.t.Fatal("no more lines", r.lines.Err())
	}
	return r.lines.Text()
}

// worker waits until the nth worker is well, returns its number, and checks what it was left.
func (r *run) worker(n int, files string) (pid int) {
	r.t.Helper()
	line := r.line()
	var got int
	if _, err := fmt.Sscanf(line, "worker %d pid %d", &got, &pid); err != nil || got != n || !strings.HasSuffix(line, files) {
		r.t.Fatalf("%q: want worker %d with %q", line, n, files)
	}
	if line := r.line(); line != "well" {
		r.t.Fatal(line)
	}
	return pid
}

func TestKilled(t *testing.T) {
	r := start(t, "stays")
	for n := range 4 {
		if err := syscall.Kill(r.worker(n, "files 0"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r.worker(4, "files 0")
	r.cancel()
	var exit *supervise.ExitError
	if err := <-r.done; !errors.As(err, &exit) || exit.Status != 5 {
		t.Errorf("got %v, want the worker's status 5", err)
	}
}

func TestPanics(t *testing.T) {
	r := start(t, "panics")
	for n := range 4 {
		r.worker(n, "files 0")
	}
	r.cancel()
	<-r.done
}

// TestReplaced hands on files, until one of the workers crashes.
func TestReplaced(t *testing.T) {
	r := start(t, "stays")
	r.worker(0, "files 0")
	r.replace <- syscall.SIGHUP
	r.worker(1, `files 1 "of 0"`)
	r.replace <- syscall.SIGHUP
	if err := syscall.Kill(r.worker(2, `files 1 "of 1"`), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.worker(3, "files 0")
	r.cancel()
	<-r.done
}

// TestStays asks a worker that goes on at first, and counts as replaced only when it
// has given way.
func TestStays(t *testing.T) {
	r := start(t, "refuses")
	ask := func() {
		t.Helper()
		r.replace <- syscall.SIGHUP
		if line := r.line(); line != "stays <nil>" {
			t.Fatal(line)
		}
	}
	r.worker(0, "files 0")
	ask()
	r.replace <- syscall.SIGHUP
	pid := r.worker(1, `files 1 "of 0"`)
	ask()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-r.done; err != nil {
		t.Errorf("it ended by itself: %v", err)
	}
}

// TestForward sends each worker what it is meant to get.
func TestForward(t *testing.T) {
	r := start(t, "stays")
	for n := range 3 {
		pid := r.worker(n, "files 0")
		r.forward <- syscall.SIGUSR1
		if line := r.line(); line != "asked" {
			t.Fatal(line)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r.worker(3, "files 0")
	r.cancel()
	<-r.done
}

// TestKept hands on files whatever happens, until others are left.
func TestKept(t *testing.T) {
	r := start(t, "keeps")
	kill := func(pid int) {
		t.Helper()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	kill(r.worker(0, "files 0"))
	kill(r.worker(1, `files 1 "of 0"`))
	r.worker(2, `files 1 "of 0"`)
	r.replace <- syscall.SIGHUP
	kill(r.worker(3, `files 1 "of 0"`))
	r.worker(4, "files 0")
	r.cancel()
	<-r.done
}

func TestDone(t *testing.T) {
	r := start(t, "done")
	r.worker(0, "files 0")
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

func TestNeverWell(t *testing.T) {
	r := start(t, "unwell")
	var exit *supervise.ExitError
	if err := <-r.done; !errors.As(err, &exit) || exit.Status != 4 {
		t.Errorf("got %v, want the worker's status 4", err)
	}
	absent := func() *exec.Cmd { return exec.Command("/nonexistent/program") }
	if err := supervise.Run(t.Context(), absent, supervise.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
}

func TestUnsupervised(t *testing.T) {
	s, err := supervise.Find()
	if s != nil || err != nil {
		t.Fatalf("got %v, %v", s, err)
	}
	if err := s.Leave(supervise.Legacy{}); err != nil {
		t.Error(err)
	}
	select {
	case <-s.GiveWay():
		t.Error("asked to give way")
	default:
	}
}
