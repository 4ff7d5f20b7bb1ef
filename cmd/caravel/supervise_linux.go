package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"caravel/supervise"
)

// superviseSelf keeps a process running that is this command.
func superviseSelf(ctx context.Context, std streams, log *slog.Logger) error {
	// Where it lies now, as it may be another program when it is started next.
	program, err := os.Executable()
	if err != nil {
		return err
	}
	// No reason to end here.
	signal.Reset(syscall.SIGHUP)
	replace := make(chan os.Signal, 1)
	signal.Notify(replace, syscall.SIGHUP)
	defer signal.Stop(replace)
	report := make(chan os.Signal, 1)
	signal.Notify(report, syscall.SIGUSR1)
	defer signal.Stop(report)
	stdout := os.Stdout
	if std.ready != nil { // and of the workers the first one says so
		if stdout, err = passOn(os.Stdout, std.ready); err != nil {
			return err
		}
		defer stdout.Close()
	}
	command := func() *exec.Cmd {
		c := exec.Command(program, os.Args[1:]...)
		c.Args[0] = os.Args[0]
		c.Stdout, c.Stderr = stdout, std.err // std.out is closed when ctx ends, which may be now
		return c
	}
	err = supervise.Run(ctx, command, supervise.Options{Replace: replace, Forward: report, Log: log})
	var exit *supervise.ExitError
	if errors.As(err, &exit) {
		return &statusError{exit.Status} // the worker has said why
	}
	return err
}
