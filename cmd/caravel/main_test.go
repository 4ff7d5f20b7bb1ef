package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/config"
)

// TestMain makes the test binary stand in for caravel when the tests below
// start it again.
func TestMain(m *testing.M) {
	switch os.Getenv("CARAVEL_TEST_CHILD") {
	case "main":
		main()
	case "wait":
		os.Exit(run(interruptible(), waitApp(), os.Args[1:]))
	default:
		os.Setenv("CARAVEL_CACHE_DIR", noCache) // the user's is not for tests
		os.Setenv("CARAVEL_CONFIG", config.None)
		os.Setenv("NETRC", os.DevNull)
		os.Exit(m.Run())
	}
}

// waitApp has commands that wait to be interrupted: a server ends well then, a
// job does not, and a stubborn one goes on.
func waitApp() *cli.App {
	wait := func(name string, end func(c *cli.Context) error) *cli.Command {
		return &cli.Command{Name: name, Action: func(c *cli.Context) error {
			fmt.Fprintln(c.App.Writer, "ready")
			<-c.Context.Done()
			fmt.Fprintln(c.App.Writer, "ending")
			return end(c)
		}}
	}
	return newAppOf([]*cli.Command{
		wait("server", func(*cli.Context) error { return nil }),
		wait("job", func(c *cli.Context) error { return fmt.Errorf("chunk 7: %w", c.Context.Err()) }),
		wait("stubborn", func(*cli.Context) error { select {} }),
		{Name: "writer", Action: func(c *cli.Context) error {
			for {
				if _, err := fmt.Fprintln(c.App.Writer, "ready"); err != nil {
					fmt.Fprintln(c.App.ErrWriter, "cleaned up")
					return err
				}
			}
		}},
	}, os.Stdin, os.Stdout, os.Stderr)
}

// child prepares a process of this program.
func child(t *testing.T, kind string, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), "CARAVEL_TEST_CHILD="+kind)
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	return cmd, stderr
}

// exitStatus is 0 for a nil err of Wait, -1 if a signal ended the process.
func exitStatus(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

func TestProcess(t *testing.T) {
	for args, want := range map[string]int{"version": exitDone, "version --help": exitDone, "version x": exitUsage, "": exitUsage} {
		cmd, stderr := child(t, "main", strings.Fields(args)...)
		if got := exitStatus(t, cmd.Run()); got != want {
			t.Errorf("%q: exit status %d, want %d, %s", args, got, want, stderr)
		}
	}
}

func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals can be sent")
	}
	tests := []struct {
		command string
		signals []os.Signal
		status  int
		stderr  string
	}{
		{"server", []os.Signal{os.Interrupt}, exitDone, ""},
		{"server", []os.Signal{syscall.SIGTERM}, exitDone, ""},
		{"job", []os.Signal{os.Interrupt}, exitFailed, "caravel: interrupted\n"},
		{"job", []os.Signal{syscall.SIGTERM}, exitFailed, "caravel: interrupted\n"},
		{"stubborn", []os.Signal{os.Interrupt, os.Interrupt}, exitFailed, ""},
		{"stubborn", []os.Signal{os.Interrupt, syscall.SIGTERM}, exitFailed, ""},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.command, tt.signals), func(t *testing.T) {
			cmd, stderr := child(t, "wait", tt.command)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Each line says that the next signal will find the child waiting.
			lines := bufio.NewScanner(stdout)
			for i, sig := range tt.signals {
				if !lines.Scan() {
					t.Fatal("no line: ", lines.Err())
				}
				if i > 0 {
					<-time.After(oneSignal) // sooner it would be the same one again
				}
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			for lines.Scan() {
			}
			if got := exitStatus(t, cmd.Wait()); got != tt.status || stderr.String() != tt.stderr {
				t.Errorf("exit status %d, %s", got, stderr)
			}
		})
	}
}

// TestSameSignal checks that what timeout(1) sends twice is one signal.
func TestSameSignal(t *testing.T) {
	tests := []struct {
		name  string
		next  os.Signal
		after time.Duration
		ends  bool
	}{
		{"the same at once", os.Interrupt, 0, false},
		{"the same again", os.Interrupt, oneSignal, true},
		{"another one", syscall.SIGTERM, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals, ended := make(chan os.Signal), false
				cause := error(nil)
				go obey(signals, func(err error) { cause = err }, func(status int) { ended = status == exitFailed })
				signals <- os.Interrupt
				synctest.Wait()
				if !errors.Is(cause, errInterrupted) {
					t.Errorf("cancelled with %v", cause)
				}
				time.Sleep(tt.after)
				signals <- tt.next
				close(signals)
				synctest.Wait()
				if ended != tt.ends {
					t.Errorf("ended: %v", ended)
				}
			})
		})
	}
}

// TestBrokenPipe checks that a reader who leaves does not kill the program
// before it has cleaned up.
func TestBrokenPipe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such signal")
	}
	cmd, stderr := child(t, "wait", "writer")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stdout.Close()
	got := exitStatus(t, cmd.Wait())
	if got != exitFailed || !strings.HasPrefix(stderr.String(), "cleaned up\ncaravel: ") {
		t.Errorf("exit status %d, %s", got, stderr)
	}
}
