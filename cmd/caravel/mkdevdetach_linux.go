package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"caravel/internal/claim"
	"caravel/internal/diskuse"
	"caravel/nbddev"
)

// detachDevice ends a device, whoever serves it.
func detachDevice(ctx context.Context, node string) error {
	path, err := filepath.EvalSymlinks(node)
	if err != nil {
		return err
	}
	if err := tidy(ctx); err != nil {
		return err
	}
	if _, err := os.Lstat(node); errors.Is(err, os.ErrNotExist) {
		return nil // all that was left of it
	}
	all, err := ourDevices()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(d listedDevice) bool { return d.Device == path })
	if i < 0 {
		return fmt.Errorf("%s: not a device that caravel mkdev has attached; see caravel mkdev --list", node)
	}
	index, nbd := nbddev.Index(path)
	if !nbd {
		return endProcess(ctx, path)
	}
	if err := nbddev.At(index).Detach(); err != nil {
		return err
	}
	if all[i].PID != 0 {
		return leftAlone(ctx, path, all[i].PID)
	}
	return tidy(ctx)
}

// endProcess has the process end that has a loop device, and with it the device,
// unless somebody uses that: its end would be the end of what they read.
func endProcess(ctx context.Context, device string) error {
	r, err := claim.Find(claim.Dir, filepath.Base(device))
	if err != nil || !r.Alive {
		return nil // it has ended meanwhile
	}
	use := loopUse(device)
	if err := diskuse.Free(device, r.PID, r.Supervisor); err != nil {
		return err
	}
	if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: process %d: %w", device, r.PID, err)
	}
	if err := leftAlone(ctx, device, r.PID); err != nil {
		return err
	}
	if hasFile(device) && loopUse(device) == use { // somebody was faster
		return &diskuse.InUseError{Path: device, Users: diskuse.Of(device)}
	}
	return nil
}

// loopUse is what tells one use of a loop device from the next.
func loopUse(device string) string {
	b, _ := os.ReadFile("/sys/block/" + filepath.Base(device) + "/diskseq")
	return string(b)
}

// leftAlone waits until the process that had a device is done with it.
func leftAlone(ctx context.Context, device string, pid int) error {
	const limit = 10 * time.Second
	for deadline := time.Now().Add(limit); ; {
		r, err := claim.Find(claim.Dir, filepath.Base(device))
		if err != nil || !r.Alive || r.PID != pid {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: process %d does not let go of it", device, r.PID)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tidy removes what processes that were killed have left of devices that are no
// more: their records, and the links to them, which would lead to whatever gets the
// device next.
func tidy(ctx context.Context) error {
	dir, err := claim.Lock(ctx, claim.Dir)
	if err != nil {
		return err
	}
	defer dir.Unlock()
	all, err := claim.All(claim.Dir)
	if err != nil {
		return err
	}
	for name, r := range all {
		if device := "/dev/" + name; !r.Alive && !hasFile(device) {
			deviceNode{link: r.Link}.remove(device)
			err = errors.Join(err, dir.Drop(name))
		}
	}
	return err
}
