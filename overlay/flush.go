package overlay

import (
	"context"
	"fmt"
)

// flushPages is how many pages of the map go to the disk behind one fdatasync: it
// bounds what is held in memory for it, 4 KiB each.
const flushPages = 1024

// Flush returns when everything is on stable storage that returned before Flush
// was called. Writes and reads go on meanwhile. If ctx ends while others flush it
// returns at once. Lack of room for the map is an error of one Flush; if the disk
// has failed, nothing is written any more and each Flush fails.
func (d *Disk) Flush(ctx context.Context) error {
	begun := d.begun.Load()
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := d.failed(); err != nil {
		return err
	}
	if d.flushed > begun {
		return nil // one that began after us is done
	}
	round := d.begun.Add(1)
	if err := d.flush(); err != nil {
		return err
	}
	d.flushed = round
	return nil
}

// flush brings the data to the disk, then the bits of what was present before
// that.
func (d *Disk) flush() error {
	if !d.walked {
		if err := d.blocks.walk(); err != nil {
			return d.wrong(d.header.volatileAt(), err)
		}
		d.walked = true
	}
	list := d.blocks.soiled()
	for len(list) > 0 {
		part := list[:min(len(list), flushPages)]
		if err := d.flushMap(part); err != nil {
			d.blocks.giveBack(list)
			return err
		}
		list = list[len(part):]
	}
	return d.sync()
}

// flushMap writes pages of the durable map, once the data is on the disk that
// they speak of.
func (d *Disk) flushMap(list []int) error {
	pages := make([][]byte, len(list))
	for i, at := range list {
		raw, err := d.blocks.take(at)
		if err != nil {
			return d.wrong(d.blocks.durableAt(at), err)
		}
		pages[i] = raw
	}
	if err := d.sync(); err != nil {
		return err
	}
	for i, at := range list {
		if _, err := d.file.WriteAt(pages[i], d.blocks.durableAt(at)); err != nil {
			return d.wrong(d.blocks.durableAt(at), err)
		}
	}
	return nil
}

// sync brings the file to the disk, or ends all writing.
func (d *Disk) sync() error {
	if err := d.file.sync(); err != nil {
		return d.fail(fmt.Errorf("flush: %w", bare(err)))
	}
	return nil
}
