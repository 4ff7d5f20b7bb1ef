package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"caravel/supervise"
)

// supervised finds the supervisor if this process is a worker.
func supervised(in string, opt mkdevOptions) (*supervise.Supervisor, error) {
	if !opt.supervise {
		return nil, nil
	}
	if in == "-" {
		return nil, usagef("--supervise: standard input cannot be read again")
	}
	return supervise.Find()
}

// superviseMkdev keeps a process running that is this command.
func superviseMkdev(ctx context.Context, std streams, opt mkdevOptions) error {
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
	command := func() *exec.Cmd {
		c := exec.Command(program, os.Args[1:]...)
		c.Args[0] = os.Args[0]
		c.Stdout, c.Stderr = os.Stdout, std.err // std.out is closed when ctx ends, which may be now
		return c
	}
	err = supervise.Run(ctx, command, supervise.Options{Replace: replace, Forward: report, Log: opt.lazy.log.logger(std.err)})
	var exit *supervise.ExitError
	if errors.As(err, &exit) {
		return &statusError{exit.Status} // the worker has said why
	}
	return err
}

// legacy is what the next worker has to know: which device, and the links to it,
// if it can go on with them.
func (d *nbdDevice) legacy(files []*os.File) supervise.Legacy {
	return supervise.Legacy{State: []byte(d.device.Path), Files: files}
}

// giveWay lets another worker go on with the device. If the links can be left to
// it, the kernel notices nothing; if not, it waits for new ones. If ctx ends before
// what was taken is answered, there is no other process to come.
func (d *nbdDevice) giveWay(ctx context.Context) error {
	files, err := d.serving.Files()
	defer supervise.Legacy{Files: files}.Close()
	cut := context.AfterFunc(ctx, func() { time.AfterFunc(nbdEnd, d.server.Cut) })
	defer cut()
	stopped := d.serving.Stop()
	switch {
	case ctx.Err() != nil:
		return d.end()
	case err == nil && stopped == nil && d.device.Attached():
		err = d.boss.Leave(d.legacy(files))
	default:
		d.log.Warn("links to the kernel are not left to the next process", "err", errors.Join(err, stopped))
		err = nil
	}
	return errors.Join(err, d.claim.Leave())
}
