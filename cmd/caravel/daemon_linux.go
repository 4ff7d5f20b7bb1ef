package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"caravel/internal/notify"
)

// daemonOptions say whether a command goes on in the background, and what is logged
// where.
type daemonOptions struct {
	daemon bool
	file   string // "": standard error, and in the background the system's log
}

func daemonFlags(opt *daemonOptions) []cli.Flag {
	return []cli.Flag{
		newSwitch("daemon", "go on in the background as soon as it can be used; what is logged then goes to --log-file, or the journal, or syslog", &opt.daemon),
		&cli.StringFlag{Name: "log-file", Usage: "append what is logged to `FILE`", Destination: &opt.file},
	}
}

// begin starts the background process if that is wanted, and then there is no more to
// be done here. Else it returns the streams that the command has.
func (o daemonOptions) begin(ctx context.Context, std streams) (_ streams, done bool, err error) {
	if o.daemon && !inBackground() {
		return std, true, startDaemon(ctx, std)
	}
	if o.daemon {
		std.ready = func() error { return detach(o.file) }
	} else if o.file != "" {
		to, err := openLog(o.file)
		if err != nil {
			return std, false, err
		}
		std.log = to
	}
	return std, false, nil
}

// daemonVariable is set for a process that goes on in the background, and for those
// that it starts.
const daemonVariable = "CARAVEL_DAEMON"

// inBackground reports whether this process is to go on in the background.
func inBackground() bool { return os.Getenv(daemonVariable) != "" }

// startDaemon runs this command once more, in the background, and returns when that has
// said that it can be used, or has failed.
func startDaemon(ctx context.Context, std streams) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), daemonVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, write, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })() // it may be gone
	line, err := bufio.NewReader(read).ReadString('\n')
	if err == nil {
		_, err = io.WriteString(std.out, line)
		return err
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil || ctx.Err() != nil:
		return errInterrupted
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return &statusError{exit.ExitCode()} // it has said why
	}
	return fmt.Errorf("in the background: %w", err)
}

// detach leaves the terminal: what is logged from now on goes to file, or where the
// system's log is.
func detach(file string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	open := systemLog
	if file != "" {
		open = func() (*os.File, error) { return openLog(file) }
	}
	to, err := open()
	if err != nil {
		return err
	}
	if to == nil {
		to = null
	}
	defer to.Close()
	_ = notify.Send(fmt.Sprintf("MAINPID=%d", os.Getpid())) // nobody need listen
	for fd, f := range []*os.File{null, null, to} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return nil
}

func openLog(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("--log-file: %w", err)
	}
	return f, nil
}

// The places where a system's log listens.
const (
	journalSocket = "/run/systemd/journal/stdout"
	syslogSocket  = "/dev/log"
)

// systemLog is a file of which each line that is written goes to the system's log; nil
// if there is none. The journal takes it as it is, so that a crash is in it as well.
func systemLog() (*os.File, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: journalSocket, Net: "unix"})
	if err == nil {
		defer c.Close()
		// Name, unit, priority (info), and whether a line begins with one, goes to
		// syslog, the kernel's log, the console.
		if _, err := io.WriteString(c, "caravel\n\n6\n0\n0\n0\n0\n"); err == nil {
			return c.File()
		}
	}
	if _, err := os.Stat(syslogSocket); err != nil {
		return nil, nil
	}
	to, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "caravel")
	if err != nil {
		return nil, nil // nobody listens
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer read.Close()
		lines := bufio.NewScanner(read)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			_ = graded(to, lines.Text()) // there is no other place to complain
		}
	}()
	return write, nil
}

// graded writes a line to the log by what it says of itself.
func graded(to *syslog.Writer, line string) error {
	switch {
	case strings.Contains(line, " level=ERROR "):
		return to.Err(line)
	case strings.Contains(line, " level=WARN "):
		return to.Warning(line)
	case strings.Contains(line, " level=DEBUG "):
		return to.Debug(line)
	}
	return to.Info(line)
}

// passOn gives a file of which the first line is passed on to out, with which all is
// ready.
func passOn(out io.Writer, ready func() error) (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer read.Close()
		lines := bufio.NewReader(read)
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = io.WriteString(out, line) // whoever waited for it may be gone
		_ = ready()                      // as the worker has found, too
		_, _ = io.Copy(io.Discard, lines)
	}()
	return write, nil
}
