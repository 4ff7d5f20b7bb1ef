package main

import (
	"bytes"
	"context"
	"math"
	"sync"
	"time"

	"caravel/prefetch"
	"caravel/store"
)

// The endings of the files beside an index.
const (
	treeSuffix    = ".tree"
	profileSuffix = ".profile"
)

// begin starts what is done for the image beside what its readers ask for: first
// the rest of its index, for nothing is kept on the word of a part; then what
// its profile says and, at the same time, what complete does for a tree (nil:
// nothing); then the sweep. The classes see to it that demand goes first.
func (c *cachedImage) begin(complete func(context.Context) error) {
	c.work.Go(func() {
		if !c.fill() {
			return
		}
		var first sync.WaitGroup
		first.Go(c.replay)
		if complete != nil && c.from.mayRoam() {
			first.Go(func() {
				if err := complete(c.life); err != nil && c.life.Err() == nil {
					c.from.log.Debug("names and attributes are not all known", "image", c.src.where, "err", err)
				}
			})
		}
		first.Wait()
		c.sweep()
	})
}

// mayRoam reports whether more may be fetched than somebody has asked for, or
// has asked for in an earlier run.
func (o *lazyOpener) mayRoam() bool {
	return !o.lazy.noSweep && !o.lazy.metered && !o.opt.disk.offline
}

// fill makes sure of the whole index, and opens the way to the places where
// chunks are kept. It reports whether that was done before the end.
func (c *cachedImage) fill() bool {
	if c.whole() != nil {
		return true
	}
	x, err := c.src.Fill(c.life)
	for pause := time.Second; err != nil; pause = min(2*pause, time.Minute) {
		if c.life.Err() != nil {
			return false
		}
		if pause == time.Second {
			c.from.log.Warn("rest of the index does not come, nothing is kept until it does", "image", c.src.where, "err", err)
		}
		select {
		case <-time.After(pause):
			x, err = c.src.Fill(c.life)
		case <-c.life.Done():
		}
	}
	c.mu.Lock()
	c.index = x
	c.mu.Unlock()
	c.src.shut.Store(false)
	if err := c.materialise(); err != nil {
		c.from.log.Error("image is not materialised", "image", c.src.where, "err", err)
	}
	return true
}

// replay brings what an earlier run has touched.
func (c *cachedImage) replay() {
	if bits := c.from.corInit; bits != nil {
		rows, err := corRows(bits, c.whole())
		if err != nil {
			c.from.log.Warn("--cor-state-init is of no use", "image", c.src.where, "err", err)
		}
		c.replayRows(rows)
	}
	p := c.from.named
	if p == nil && c.from.lazy.profile == profileAuto {
		p = c.besideProfile()
	}
	if p == nil {
		return
	}
	c.replayRows(p.Rows(c.whole()))
}

func (c *cachedImage) replayRows(rows []int) {
	opt := prefetch.ReplayOptions{Progress: c.noteReplay, Log: c.from.log}
	c.noteReplay(prefetch.Replay(c.life, rows, c.View(store.Profile), opt))
}

func (c *cachedImage) noteReplay(s prefetch.ReplayStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replayed = s
}

// besideProfile is the profile that lies beside the index, or nil.
func (c *cachedImage) besideProfile() *prefetch.Profile {
	content, err := c.src.Side(c.life, profileSuffix)
	if err != nil {
		return nil // images have none as a rule
	}
	p, err := prefetch.ReadProfile(bytes.NewReader(content))
	if err != nil {
		c.from.log.Warn("profile beside the index is no good", "image", c.src.where, "err", err)
		c.src.Drop(profileSuffix)
		return nil
	}
	return p
}

// sweep fetches the rest of the image to where it is kept.
func (c *cachedImage) sweep() {
	file := c.src.file.Load()
	if !c.from.mayRoam() || c.src.kept == nil && file == nil {
		return
	}
	opt := prefetch.SweepOptions{
		Rate:     c.from.lazy.sweepRate,
		Room:     c.room(),
		Chunk:    int64(c.src.Table.Chunking().Avg),
		Progress: c.noteSweep,
		Log:      c.from.log,
	}
	if x := c.whole(); c.part.Len > 0 && x != nil {
		opt.First, opt.End = x.Find(c.part.Off), x.Find(c.part.Off+c.part.Len-1)+1
	}
	keeping := prefetch.NewSwept(prefetch.Keeping(c.Image))
	c.sweeping.Store(keeping)
	s, err := prefetch.Sweep(c.life, keeping, opt)
	c.noteSweep(s)
	if err != nil || file == nil {
		return // we end
	}
	if err := c.Image.Fill(c.life, file, store.Sweep); err != nil && c.life.Err() == nil {
		c.from.log.Warn("image is not materialised to its end", "image", c.src.where, "err", err)
	}
	c.used()
}

// room is how much a sweep may still keep, nil: any number of bytes. A file has
// room for all of its image.
func (c *cachedImage) room() func() int64 {
	if c.src.room == nil {
		return nil
	}
	return func() int64 {
		if c.src.materialised() {
			return math.MaxInt64
		}
		return c.src.room()
	}
}

func (c *cachedImage) noteSweep(s prefetch.SweepStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swept = s
}
