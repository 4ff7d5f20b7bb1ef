package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"caravel/internal/claim"
	"caravel/internal/diskuse"
	"caravel/internal/notify"
	"caravel/internal/sector"
	"caravel/nbd"
	"caravel/nbddev"
)

const (
	// maxConnections is how many the kernel may have to a device here; all of
	// them can be left to another process at once.
	maxConnections = 64

	// nbdMargin is how much longer than a fetch the kernel waits for an answer: a
	// fetch that takes too long is an error of that read, and costs no connection.
	nbdMargin = 10 * time.Second

	// nbdEnd is how long reads in flight may go on at the end. Those of a device in
	// use that take longer, the kernel asks again of the next process.
	nbdEnd = 5 * time.Second

	// What the kernel's driver may have in flight for each connection; the requests
	// of a lost one go to the others. It asks for 128 KiB at a time unless
	// /sys/block/nbdN/queue/max_sectors_kb was raised, and is let go that much higher.
	nbdTags    = 128
	nbdLargest = 1 << 20
)

// An nbdDevice is an image that becomes a device, is one, or was one.
type nbdDevice struct {
	deviceImage
	size   int64 // in whole sectors
	server *nbd.Server

	device  *nbddev.Device
	serving *nbddev.Serving
	claim   *claim.Claim
	taken   bool // over from another process
}

// mkdevNBD serves the image to the kernel until it is told to end, the device is
// detached, or another process takes over. What is behind a device is known for
// sure when it is attached.
func mkdevNBD(ctx context.Context, std streams, in string, to deviceImage) error {
	if t := to.opt.lazy.source.timeout; t != 0 {
		to.opt.lazy.wait = t + nbdMargin/2 // the kernel still gets the error
	}
	return to.open(ctx, std, in, true, func(to deviceImage, img *lazyImage) (err error) {
		disk, err := to.opt.disk(img)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, disk.Close()) }()
		d := &nbdDevice{deviceImage: to, size: disk.size}
		if d.identity, err = d.opt.identity(img.identity()); err != nil {
			return err
		}
		d.server, err = nbd.NewServer([]nbd.Export{{Name: img.name, Size: disk.size, Reader: timely(disk.Reader, to.opt.lazy.wait)}}, d.limits())
		if err != nil {
			return err
		}
		return d.run(ctx, std)
	})
}

// limits let the server take all that the kernel may ask: what waits unread behind a
// store that hangs has its time limit from when it is read, and the kernel's own
// would be over first. Who gives way to another process answers all of it.
func (d *nbdDevice) limits() nbd.Options {
	memory := int64(d.connections()) * nbdTags * nbdLargest
	return nbd.Options{
		Requests:   d.connections() * nbdTags,
		ConnMemory: memory,
		Memory:     memory,
		Grace:      d.config().Timeout,
		Log:        d.log,
	}
}

// run attaches the device and serves it to its end.
func (d *nbdDevice) run(ctx context.Context, std streams) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.announce(ctx, std); err != nil {
		return errors.Join(err, d.end())
	}
	select {
	case <-d.serving.Over():
		return d.over()
	case <-d.boss.GiveWay():
		return d.giveWay(ctx)
	case <-ctx.Done():
		return d.end()
	}
}

// disk is the image in whole sectors.
func (o mkdevOptions) disk(img *lazyImage) (disk, error) {
	d, err := o.overlay.over(img)
	if err != nil {
		return disk{}, err
	}
	if o.overlay.file == "" {
		d.Reader, d.size = sector.Pad(d.Reader, d.size, int(o.blockSize))
		return d, nil
	}
	if d.size%o.blockSize != 0 {
		return disk{}, errors.Join(usagef("--block-size=%d: the writable disk has %d bytes, no multiple of it; see --overlay-size", o.blockSize, d.size), d.Close())
	}
	return d, nil
}

func (d *nbdDevice) config() nbddev.Config {
	c := nbddev.Config{
		Size:        d.size,
		BlockSize:   int(d.opt.blockSize),
		DeadTimeout: d.opt.deadTimeout,
		Identity:    d.identity,
		Writable:    d.opt.overlay.file != "",
	}
	if t := d.opt.lazy.source.timeout; t != 0 {
		c.Timeout = t + nbdMargin
	}
	return c
}

// connections is how many the kernel gets. Only with a single one does it wait for
// answers for ever.
func (d *nbdDevice) connections() int {
	if d.opt.lazy.source.timeout == 0 {
		return 1
	}
	return d.opt.connections
}

func (d *nbdDevice) serve(links []*nbddev.Link) {
	d.serving = nbddev.Serve(links, func(ctx context.Context, c net.Conn) error {
		return d.server.ServeKernel(ctx, c, "")
	})
}

// announce waits until the device can be used, makes the link, and says so.
func (d *nbdDevice) announce(ctx context.Context, std streams) error {
	if err := d.device.Announced(ctx); err != nil {
		if !d.taken || ctx.Err() != nil {
			return err
		}
		// It has its users already: they are not helped by the end of who serves it.
		d.log.Warn("device is served again, but not announced", "device", d.device.Path, "err", err)
	}
	if err := d.node.make(d.device.Path); err != nil {
		if !d.taken {
			return err
		}
		d.log.Warn("device is served again, without its link", "device", d.device.Path, "err", err)
	}
	if err := d.boss.Leave(d.legacy(nil)); err != nil {
		return err
	}
	if n := nbddev.MaxPartitions(); n == 0 {
		d.log.Warn("the kernel shows no partitions: its nbd driver was loaded with max_part=0")
	}
	if d.boss != nil && d.taken { // it was said already
		d.log.Info("device is served again", "device", d.device.Path)
		return nil
	}
	return announce(std, "Attached: "+d.device.Path, notify.Ready, "DEVICE="+d.device.Path)
}

// over tidies up after a device that somebody has detached, or that cannot be
// served any more.
func (d *nbdDevice) over() error {
	if err := d.stop(nbdEnd); err != nil {
		return errors.Join(err, d.claim.Leave())
	}
	return d.gone()
}

// gone removes what was there for the device. From when the claim is released,
// udev's rule has no name for it; so what udev was about to do when it still had
// one is undone by its next look, and the link does not come back.
func (d *nbdDevice) gone() error {
	defer d.node.forget(d.device.Path)
	err := d.claim.Release()
	if d.node.udevName() != "" {
		err = errors.Join(err, d.device.Changed())
	}
	return err
}

// end detaches the device. One in use stays and waits for the next process.
func (d *nbdDevice) end() error {
	err := d.device.Detach()
	if err == nil {
		_ = d.stop(0) // nobody waits for what is still being read
		_ = notify.Send(notify.Stopping)
		return d.gone()
	}
	_ = d.stop(nbdEnd)
	var used *diskuse.InUseError
	if errors.As(err, &used) {
		err = fmt.Errorf("%w; its reads wait %v for mkdev of the same image", err, d.opt.deadTimeout)
	}
	return errors.Join(err, d.claim.Leave())
}

// stop lets go of the links when what was taken is answered, or when the time is
// over.
func (d *nbdDevice) stop(limit time.Duration) error {
	defer time.AfterFunc(limit, d.server.Cut).Stop()
	return d.serving.Stop()
}
