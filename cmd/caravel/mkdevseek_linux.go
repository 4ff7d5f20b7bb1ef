package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"caravel/internal/claim"
	"caravel/nbddev"
)

// begin attaches the image, or goes on with a device that is attached to it.
func (d *nbdDevice) begin(ctx context.Context) error {
	// Nobody takes a device for an orphan that is not claimed yet.
	dir, err := claim.Lock(ctx, claim.Dir)
	if err != nil {
		return err
	}
	defer dir.Unlock()
	index, found, err := d.seek(dir)
	if err != nil {
		return err
	}
	if found == nil {
		if err := d.node.free(); err != nil {
			return err
		}
		return d.attach(dir, index)
	}
	return d.takeOver(dir, index, *found)
}

// seek finds the device to be used: the one that is attached and found, which
// nobody serves, or a free one.
func (d *nbdDevice) seek(dir *claim.Locked) (index int, found *claim.Found, err error) {
	index, err = d.wanted()
	if err != nil {
		return 0, nil, err
	}
	if index == nbddev.Any && d.node.link == "" {
		return d.orphan()
	}
	state, attached, err := nbddev.Look(index)
	if err != nil || !attached {
		return d.node.index, nil, err
	}
	name := deviceName(index)
	r, err := claim.Find(claim.Dir, name)
	switch {
	case err == nil && r.Alive:
		return 0, nil, fmt.Errorf("/dev/%s: process %d serves it", name, r.PID)
	case state.Identity != d.identity:
		return 0, nil, fmt.Errorf("/dev/%s: attached to another image, or through another --overlay (%s, not %s); caravel mkdev --detach /dev/%s first", name, cmp.Or(state.Identity, "of unknown origin"), d.identity, name)
	case state.BlockSize != int(d.opt.blockSize):
		return 0, nil, fmt.Errorf("/dev/%s: attached with --block-size=%d, which cannot change", name, state.BlockSize)
	}
	return index, &r, nil
}

func deviceName(index int) string { return filepath.Base(nbddev.At(index).Path) }

// wanted is the number of the device that is meant by the supervisor or the node,
// Any if that has none so far.
func (d *nbdDevice) wanted() (int, error) {
	if d.boss != nil && len(d.boss.Legacy.State) > 0 {
		index, ok := nbddev.Index(string(d.boss.Legacy.State))
		if !ok {
			return 0, fmt.Errorf("supervisor: %q is no nbd device", d.boss.Legacy.State)
		}
		return index, nil
	}
	if d.node.index != nbddev.Any || d.node.link == "" {
		return d.node.index, nil
	}
	if index, ok := nbddev.Index(d.node.linked()); ok {
		return index, nil
	}
	all, err := claim.All(claim.Dir)
	if err != nil {
		return 0, err
	}
	for name, r := range all {
		if index, ok := nbddev.Index("/dev/" + name); ok && r.Link == d.node.link {
			return index, nil
		}
	}
	return nbddev.Any, nil
}

// orphan finds the one device of this image that nobody serves.
func (d *nbdDevice) orphan() (int, *claim.Found, error) {
	devices, err := nbddev.List()
	if err != nil {
		return 0, nil, err
	}
	index, found := nbddev.Any, (*claim.Found)(nil)
	for _, s := range devices {
		if s.Identity != d.identity || s.BlockSize != int(d.opt.blockSize) {
			continue
		}
		r, err := claim.Find(claim.Dir, deviceName(s.Index))
		if err != nil || r.Alive || r.Link != "" {
			continue
		}
		if found != nil {
			return nbddev.Any, nil, nil // nobody knows which
		}
		index, found = s.Index, &r
	}
	return index, found, nil
}

func (d *nbdDevice) attach(dir *claim.Locked, index int) (err error) {
	links, err := nbddev.NewLinks(d.connections())
	if err != nil {
		return err
	}
	d.serve(links)
	if d.device, err = nbddev.Attach(index, links, d.config()); err != nil {
		return errors.Join(err, d.serving.Stop())
	}
	return d.attached(dir, len(links))
}

// takeOver goes on with a device that is attached: on the links that another
// process left, and on new ones for those that are missing. That is all of them
// after a crash, and one that was just being replaced when the other gave way.
func (d *nbdDevice) takeOver(dir *claim.Locked, index int, r claim.Found) error {
	d.taken = true
	d.device = nbddev.At(index).As(d.config())
	n := min(max(1, r.Connections), maxConnections) // it has no room for more
	links, err := d.left()
	if err != nil {
		return err
	}
	missing, err := nbddev.NewLinks(n - len(links))
	if err != nil {
		return err
	}
	d.serve(slices.Concat(links, missing))
	if len(missing) > 0 {
		if err := d.device.Reattach(missing); err != nil {
			return errors.Join(err, d.serving.Stop())
		}
	}
	return d.attached(dir, n)
}

// left are the links that another process has left.
func (d *nbdDevice) left() ([]*nbddev.Link, error) {
	if d.boss == nil {
		return nil, nil
	}
	return nbddev.Resume(d.boss.Legacy.Files)
}

// attached makes the device this process's.
func (d *nbdDevice) attached(dir *claim.Locked, connections int) (err error) {
	d.serving.Of(d.device)
	d.claim, err = dir.Take(strings.TrimPrefix(d.device.Path, "/dev/"), claim.Record{
		Link:        d.node.link,
		Image:       d.image,
		Connections: connections,
	})
	if err == nil {
		return nil
	}
	if !d.taken {
		err = errors.Join(err, d.device.Detach())
	}
	return errors.Join(err, d.serving.Stop())
}
