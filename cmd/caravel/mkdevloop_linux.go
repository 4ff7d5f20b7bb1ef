package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"caravel/fusefs"
	"caravel/internal/claim"
	"caravel/internal/notify"
	"caravel/internal/sector"
	"caravel/loop"
	"caravel/store/http"
	"caravel/supervise"
)

// mkdevLoop stacks the device: image, file in a folder of our own, loop device,
// link; it is taken down in the opposite order. When it is there, why says why it
// is not another.
func mkdevLoop(ctx context.Context, std streams, in string, at deviceNode, boss *supervise.Supervisor, why string, opt mkdevOptions) (err error) {
	from, err := startLazy(ctx, std, opt.lazy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	img, err := from.open(ctx, in)
	if err != nil {
		return err
	}
	defer img.Close()
	dir, err := os.MkdirTemp("", "caravel-mkdev")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	padded, size := sector.Pad(img.reader(), img.size, int(opt.blockSize))
	m, err := fusefs.MountFile(dir, fusefs.File{
		Name:    img.name,
		Size:    size,
		Mode:    0o400,
		UID:     uint32(os.Geteuid()), // who is not root learns what takes root
		ModTime: img.modTime,
		Reader:  padded,
	}, fusefs.Options{FSName: http.Redact(in), Log: from.log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Unmount()) }()
	dev, err := loop.Attach(m.Dir+"/"+img.name, loop.Options{SectorSize: int(opt.blockSize), Name: http.Redact(in)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Detach()) }()
	if err := at.make(dev.Path); err != nil {
		return err
	}
	defer at.remove(dev.Path)
	defer claimLoop(ctx, dev.Path, claim.Record{Link: at.link, Image: http.Redact(in)}, from.log)()
	if why != "" {
		fmt.Fprintf(std.err, "caravel: %s\n", why)
	}
	if err := announce(std, "Attached: "+dev.Path, notify.Ready, "DEVICE="+dev.Path); err != nil {
		return err
	}
	if err := boss.Leave(supervise.Legacy{}); err != nil {
		return err
	}
	select {
	case <-boss.GiveWay(): // the next one attaches another device
		return nil
	case <-ctx.Done():
		_ = notify.Send(notify.Stopping)
		return nil
	case <-m.Done():
		return fmt.Errorf("the mount below %s is gone", dev.Path)
	}
}

// claimLoop lets --list and --detach find the device. It works without.
func claimLoop(ctx context.Context, device string, r claim.Record, log *slog.Logger) (release func()) {
	none := func() {}
	dir, err := claim.Lock(ctx, claim.Dir)
	if err != nil {
		log.Warn("device is not in the list", "device", device, "err", err)
		return none
	}
	defer dir.Unlock()
	c, err := dir.Take(filepath.Base(device), r)
	if err != nil {
		log.Warn("device is not in the list", "device", device, "err", err)
		return none
	}
	return func() { _ = c.Release() }
}
