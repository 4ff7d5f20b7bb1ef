package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"caravel/fusefs"
	"caravel/internal/claim"
	"caravel/internal/notify"
	"caravel/internal/sector"
	"caravel/loop"
	"caravel/supervise"
)

// A loopDevice is an image that becomes a file, and a loop device of that.
type loopDevice struct {
	deviceImage
	why  string // it is no other device; "": it was asked for
	file fusefs.File

	device *loop.Device
	claim  *claim.Claim // nil: --list does not find it
}

// mkdevLoop shows the image by a loop device until it is told to end. With a
// supervisor the device outlives this process, if the kernel can do that: the next
// one has to know whether it has the same image.
func mkdevLoop(ctx context.Context, std streams, in, why string, to deviceImage) error {
	return to.open(ctx, std, in, to.boss != nil, func(to deviceImage, img *lazyImage) (err error) {
		padded, size := sector.Pad(img.reader(), img.size, int(to.opt.blockSize))
		d := &loopDevice{deviceImage: to, why: why, file: fusefs.File{
			Name:    img.name,
			Size:    size,
			Mode:    0o400,
			UID:     uint32(os.Geteuid()), // who is not root learns what takes root
			ModTime: img.modTime,
			Reader:  padded,
		}}
		if d.boss == nil {
			return d.plain(ctx, std, "it does not outlive this process")
		}
		if d.identity, err = d.opt.identity(img.identity()); err != nil {
			return err
		}
		err = d.held(ctx, std)
		if errors.Is(err, fusefs.ErrNoResend) {
			d.why = cmp.Or(d.why, "a loop device is used")
			return d.plain(ctx, std, "it does not outlive a crash, as "+fusefs.ErrNoResend.Error())
		}
		return err
	})
}

func (d *loopDevice) mountOptions() fusefs.Options {
	return fusefs.Options{FSName: d.image, AsyncDirect: true, Log: d.log}
}

// attach makes the device of the file in the folder dir. It may get the number of
// one that was left behind.
func (d *loopDevice) attach(ctx context.Context, dir string) (err error) {
	if err := tidy(ctx); err != nil {
		d.log.Warn("what is left of former devices stays", "err", err)
	}
	d.device, err = loop.Attach(filepath.Join(dir, d.file.Name), loop.Options{
		SectorSize: int(d.opt.blockSize),
		Name:       d.image,
		Partitions: true,
	})
	return err
}

// plain has the file on a mount that ends with this process, and the device with
// it. As soon as the device has the file, nobody else need see the mount.
func (d *loopDevice) plain(ctx context.Context, std streams, fate string) (err error) {
	dir, err := os.MkdirTemp("", "caravel-mkdev")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	m, err := fusefs.MountFile(dir, d.file, d.mountOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Unmount()) }()
	if err := d.attach(ctx, m.Dir); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.device.Detach(), d.gone())
	}()
	if err := errors.Join(m.Hide(), os.Remove(dir)); err != nil {
		return err
	}
	if err := d.found(ctx); err != nil {
		return err
	}
	if err := d.announce(std, fate); err != nil {
		return err
	}
	if err := d.boss.Leave(supervise.Legacy{}); err != nil {
		return err
	}
	return d.stay(ctx, m.Done())
}

// stay waits until the device of a plain mount is to end, or that mount has. To give
// way to another process, which attaches another device, would be the end of this
// one below its users.
func (d *loopDevice) stay(ctx context.Context, unmounted <-chan struct{}) error {
	for {
		select {
		case <-d.boss.GiveWay():
			err := d.device.Detach()
			if err == nil {
				return nil
			}
			d.log.Warn("not replaced, as the device would end", "err", err)
			if err := d.boss.Stay(); err != nil {
				return err
			}
		case <-ctx.Done():
			_ = notify.Send(notify.Stopping)
			return nil
		case <-unmounted:
			return fmt.Errorf("the mount below %s is gone", d.device.Path)
		}
	}
}

// found lets the device be found: by --list and --detach, without which it works,
// and by the link. Who has the link is known before it is there.
func (d *loopDevice) found(ctx context.Context) error {
	dir, err := claim.Lock(ctx, claim.Dir)
	if err == nil {
		defer dir.Unlock()
		r := claim.Record{Link: d.node.link, Image: d.image}
		if d.boss != nil {
			r.Supervisor = os.Getppid()
		}
		d.claim, err = dir.Take(filepath.Base(d.device.Path), r)
	}
	if err != nil {
		d.log.Warn("device is not in the list", "device", d.device.Path, "err", err)
	}
	return d.node.make(d.device.Path)
}

// announce says that the device is there, and what will become of it.
func (d *loopDevice) announce(std streams, fate string) error {
	if d.why != "" {
		fmt.Fprintf(std.err, "caravel: %s; %s\n", d.why, fate)
	}
	return announce(std, "Attached: "+d.device.Path, notify.Ready, "DEVICE="+d.device.Path)
}

// gone removes what was there for the device.
func (d *loopDevice) gone() error {
	defer d.node.forget(d.device.Path)
	if d.claim == nil {
		return nil
	}
	return d.claim.Release()
}
