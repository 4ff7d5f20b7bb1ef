package blockcache

import (
	"fmt"
	"time"

	"caravel/index"
	"caravel/store"
)

const (
	// queueBytes is how much waits to be written, at most. A chunk counts for
	// 1 KiB at least.
	queueBytes = 4 << 20

	// What was written is remembered after so much of it, or so long.
	rememberBytes = 32 << 20
	rememberRows  = 4096
	rememberAfter = 5 * time.Second

	// largestBlock is that of the file systems: a page of the largest size.
	largestBlock = 64 << 10

	// fullPause is how long nothing is fetched for it after the disk was full.
	fullPause = 30 * time.Second
)

// An offered chunk waits to be written. It owns one reference, and its room.
type offered struct {
	chunk *store.Chunk
	plain []byte
}

func (o offered) room() int64 { return min(max(int64(len(o.plain)), 1<<10), queueBytes) }

// offer has a verified chunk written in the background, unless too many are
// waiting: neither a reader nor what is fetched ahead of him waits for a disk.
func (f *File) offer(row int, c *store.Chunk, plain []byte) {
	if f.has(row) || f.ready() != nil {
		return
	}
	o := offered{c, plain}
	if !f.room.TryAcquire(o.room()) {
		return
	}
	f.mu.Lock()
	_, there := f.queue[row]
	take := !f.closed && !there
	if take {
		c.Retain()
		f.queue[row] = o
		f.order = append(f.order, row)
	}
	f.mu.Unlock()
	if !take {
		f.room.Release(o.room())
		return
	}
	signal(f.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is known
	}
}

// queued returns a chunk that waits to be written, for who releases it.
func (f *File) queued(row int) (c *store.Chunk, plain []byte, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.queue[row]
	if !ok {
		return nil, nil, false
	}
	return o.chunk.Retain(), o.plain, true
}

// copyOut writes what is offered until the file is closed. A chunk is in the
// queue until it is in the file.
func (f *File) copyOut() {
	for closed := false; ; {
		f.mu.Lock()
		order := f.order
		f.order = nil
		f.mu.Unlock()
		for _, row := range order {
			f.mu.Lock()
			o := f.queue[row]
			f.mu.Unlock()
			_ = f.write(row, o.plain) // told of there
			f.mu.Lock()
			delete(f.queue, row)
			f.mu.Unlock()
			o.chunk.Release()
			f.room.Release(o.room())
		}
		if len(order) > 0 {
			continue
		}
		if closed {
			return
		}
		select {
		case <-f.wake:
		case <-f.life.Done():
			closed = true
		}
	}
}

// write writes a verified chunk, and returns when others can read it.
func (f *File) write(row int, plain []byte) error {
	r := row - f.first
	if f.has(row) {
		return nil
	}
	if err := f.usable(); err != nil {
		return err
	}
	c := f.index.Chunk(row)
	start, end := f.inside(c)
	turn := f.turn.Load()
	if !f.whole() {
		return f.giveUp(errCut) // a write would make it longer again
	}
	if err := f.writeMargins(c, plain); err != nil {
		return f.failed(err)
	}
	data := plain[start-c.Start : end-c.Start]
	if end == f.opt.Off+f.opt.Size {
		return f.writeLast(r, data, start)
	}
	if _, err := f.out.WriteAt(data, start-f.opt.Off); err != nil {
		return f.failed(err)
	}
	f.note([]int{r}, nil, end-start)
	if turn&1 == 0 && f.turn.Load() == turn {
		f.believe(r)
		return nil
	}
	f.doubt(r)
	if !f.sure(row) {
		return fmt.Errorf("blockcache: %s: what was written is not there", f.path)
	}
	return nil
}

// writeMargins writes to the map what of a chunk lies outside of the file.
func (f *File) writeMargins(c index.Chunk, plain []byte) error {
	start, end := f.inside(c)
	if head := plain[:start-c.Start]; len(head) > 0 {
		if _, err := f.chart.out.WriteAt(head, f.chart.headAt()); err != nil {
			return err
		}
	}
	if tail := plain[end-c.Start:]; len(tail) > 0 {
		if _, err := f.chart.out.WriteAt(tail, f.chart.tailAt()); err != nil {
			return err
		}
	}
	return nil
}

// writeLast writes the chunk that ends the file. If somebody has shortened it
// since we looked, this gives it its length again, with holes where chunks were:
// so what is believed until now must not be one.
func (f *File) writeLast(r int, data []byte, start int64) error {
	f.last.Lock()
	defer f.last.Unlock()
	if f.believed.has(r) {
		return nil // another was faster
	}
	f.turn.Add(1)
	_, err := f.out.WriteAt(data, start-f.opt.Off)
	if err == nil {
		f.doubtHoles()
	}
	f.turn.Add(1)
	if err != nil {
		return f.failed(err)
	}
	f.believe(r)
	f.note([]int{r}, nil, int64(len(data)))
	return nil
}

// doubtHoles has chunks verified again that are not of zeros and lie in holes, or
// right before one: where a file is cut, the rest of a block becomes zeros.
func (f *File) doubtHoles() {
	for r := 0; r < f.rows; {
		data := func(r int) bool { return f.believed.has(r) && !f.zeros.has(f.index.Chunk(f.first+r)) }
		if !data(r) {
			r++
			continue
		}
		from, _ := f.inside(f.index.Chunk(f.first + r))
		hole, err := seekHole(f.data, from-f.opt.Off)
		for ; r < f.rows && data(r); r++ {
			if _, end := f.inside(f.index.Chunk(f.first + r)); err != nil || end-f.opt.Off > hole-largestBlock {
				f.doubt(r)
			}
		}
	}
}

// failed notes why something could not be written. A full disk may be emptied;
// anything else is for good.
func (f *File) failed(err error) error {
	if !isFull(err) {
		return f.giveUp(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = time.Now().Add(fullPause)
	if !f.said {
		f.said = true
		f.log.Warn("materialised file waits for room", "file", f.path, "err", err)
	}
	return err
}

// note has the map learn which chunks are there and which are not.
func (f *File) note(fresh, stale []int, n int64) {
	f.mu.Lock()
	f.fresh = append(f.fresh, fresh...)
	f.stale = append(f.stale, stale...)
	f.bytes += n
	if n > 0 && !f.chartFull { // which writes to the file say nothing of
		f.full = time.Time{}
	}
	much := !f.chartFull && (f.bytes >= rememberBytes || len(f.fresh)+len(f.stale) >= rememberRows)
	f.mu.Unlock()
	signal(f.due)
	if much {
		signal(f.soon)
	}
}

// later has the map learn again what there was no room for, after a while: much
// as it may be, it does not hurry.
func (f *File) later(fresh, stale []int) {
	f.mu.Lock()
	f.fresh = append(fresh, f.fresh...)
	f.stale = append(stale, f.stale...)
	f.chartFull = true
	f.mu.Unlock()
	signal(f.due)
}

// remember brings to the disk what was written, now and then, until the file is
// closed.
func (f *File) remember() {
	for {
		select {
		case <-f.due:
		case <-f.life.Done():
			return
		}
		select {
		case <-f.soon:
		case <-time.After(rememberAfter):
		case <-f.life.Done():
			return
		}
		_ = f.sync() // told of there
	}
}

// sync brings the data that was written to the disk, and after that the map.
func (f *File) sync() error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	f.mu.Lock()
	fresh, stale, gone := f.fresh, f.stale, f.err
	f.fresh, f.stale, f.bytes = nil, nil, 0
	f.mu.Unlock()
	if gone != nil || len(fresh)+len(stale) == 0 {
		return gone
	}
	if len(fresh) > 0 {
		// What could not be written out may be gone from memory, too.
		if err := f.out.Sync(); err != nil {
			return f.giveUp(err)
		}
	}
	if f.chart.head+f.chart.tail > 0 {
		if err := f.chart.out.Sync(); err != nil {
			return f.giveUp(err)
		}
	}
	if err := f.chart.change(fresh, stale); err != nil {
		if err = f.failed(err); isFull(err) {
			f.later(fresh, stale)
		}
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.chartFull {
		f.chartFull, f.full = false, time.Time{}
	}
	return nil
}
