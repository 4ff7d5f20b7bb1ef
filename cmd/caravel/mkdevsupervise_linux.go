package main

import (
	"context"
	"errors"
	"os"
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
