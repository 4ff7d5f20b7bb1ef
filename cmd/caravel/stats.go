package main

import (
	"maps"
	"slices"
	"time"

	"caravel/blockcache"
	"caravel/prefetch"
	"caravel/store"
	"caravel/store/diskcache"
	"caravel/store/fetch"
)

// A snapshot is what a command has done up to one moment: for people as tables,
// for programs as JSON. Sizes are in bytes, times in seconds; plain bytes are
// those of the image, stored ones those that travelled.
type snapshot struct {
	Seconds float64        `json:"seconds"` // since it began
	Images  []imageReport  `json:"images"`
	Memory  memoryReport   `json:"memory"`
	Disk    *diskReport    `json:"disk,omitempty"` // nil: no cache on disk was needed, or there is none
	Origins []originReport `json:"origins"`
}

// An imageReport is about one image.
type imageReport struct {
	Image        string               `json:"image"`
	Size         int64                `json:"size"`
	Chunks       int                  `json:"chunks"`
	WholeIndex   bool                 `json:"wholeIndex"`
	Sidecar      string               `json:"sidecar"`                // none, used or dropped
	Materialised *bool                `json:"materialised,omitempty"` // whether to its end; nil: it is not to be
	Readers      map[string]tiers     `json:"readers"`                // by class
	Caches       map[string]cached    `json:"caches"`                 // by class, of what readers call the store
	ReadAhead    prefetch.Stats       `json:"readAhead"`
	Profile      prefetch.ReplayStats `json:"profile"`
	Sweep        swept                `json:"sweep"`
}

// tiers says where the chunks came from that readers of a class touched, and
// what they waited.
type tiers struct {
	Memory int64   `json:"memory"`
	Zeros  int64   `json:"zeros"`
	File   int64   `json:"file"`
	Store  int64   `json:"store"`
	Waits  int64   `json:"waits"`
	Waited float64 `json:"waited"`
	Bytes  int64   `json:"bytes"`
}

// cached says how many chunks came from caches that outlive the process; all others
// of the class came from an origin.
type cached struct {
	Named int64 `json:"named"` // that of --cache
	Disk  int64 `json:"disk"`  // that of --cache-dir
}

// swept says what a sweep has done, and how many of the chunks that it fetched were
// read since.
type swept struct {
	prefetch.SweepStats
	Read int64 `json:"read"`
}

type memoryReport struct {
	Budget   int64           `json:"budget"`
	Bytes    int64           `json:"bytes"`
	UnderWay int64           `json:"underWay"`
	Hinted   prefetch.Hinted `json:"hinted"`
}

type diskReport struct {
	Dir     string `json:"dir"`
	Budget  int64  `json:"budget"`
	Bytes   int64  `json:"bytes"`
	Hits    int64  `json:"hits"`
	Misses  int64  `json:"misses"`
	Kept    int64  `json:"kept"`
	Evicted int64  `json:"evicted"`
	Failed  int64  `json:"failed"`
}

// An originReport is about one place where chunks come from.
type originReport struct {
	Where     string             `json:"where"`
	Window    int                `json:"window"`
	InFlight  int                `json:"inFlight"`
	Queued    int                `json:"queued"`
	Latency   float64            `json:"latency"`
	P95       float64            `json:"p95"`
	Hedges    int64              `json:"hedges"`
	HedgesWon int64              `json:"hedgesWon"`
	MadeWay   int64              `json:"madeWay"` // requests of the background that were given up for a reader's
	Classes   map[string]fetches `json:"classes"` // those for which something was done
}

type fetches struct {
	Requests  int64 `json:"requests"`
	Chunks    int64 `json:"chunks"`
	Stored    int64 `json:"stored"`
	Plain     int64 `json:"plain"`
	Joined    int64 `json:"joined"`
	Upgraded  int64 `json:"upgraded"`
	Cancelled int64 `json:"cancelled"`
	Retries   int64 `json:"retries"`
	Failed    int64 `json:"failed"`
}

// snapshot may be taken at any time.
func (o *lazyOpener) snapshot() snapshot {
	o.mu.Lock()
	images, queues, disk := slices.Clone(o.cached), maps.Clone(o.queues), o.disk
	o.mu.Unlock()
	s := snapshot{
		Seconds: time.Since(o.began).Seconds(),
		Images:  make([]imageReport, 0, len(images)),
		Memory:  o.memoryReport(),
		Origins: make([]originReport, 0, len(queues)),
	}
	for _, img := range images {
		s.Images = append(s.Images, img.report())
	}
	if disk != nil {
		s.Disk = diskReportOf(disk)
	}
	for _, where := range slices.Sorted(maps.Keys(queues)) {
		s.Origins = append(s.Origins, originOf(where, queues[where].Stats()))
	}
	return s
}

func (o *lazyOpener) memoryReport() memoryReport {
	m := o.memory.Stats()
	return memoryReport{Budget: o.opt.memory, Bytes: m.Bytes, UnderWay: m.UnderWay, Hinted: prefetch.HintedOf(m)}
}

func (c *cachedImage) report() imageReport {
	r := imageReport{
		Image:      c.src.where,
		Size:       c.Size(),
		Chunks:     c.Rows(),
		WholeIndex: c.whole() != nil,
		Sidecar:    c.src.sidecarState(),
		Readers:    map[string]tiers{},
		Caches:     c.src.caches.report(),
		ReadAhead:  c.src.ahead.Stats(),
	}
	for class := range store.Classes {
		if t := c.StatsOf(store.Class(class)); t != (blockcache.Stats{}) {
			r.Readers[store.Class(class).String()] = tiersOf(t)
		}
	}
	file := c.src.file.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	if file != nil {
		r.Materialised = new(c.complete || file.Complete())
	}
	r.Profile, r.Sweep = c.replayed, swept{c.swept, c.sweeping.Load().Read()}
	return r
}

func (h *cacheHits) report() map[string]cached {
	all := map[string]cached{}
	for class := range store.Classes {
		if n := (cached{Named: h.named[class].Load(), Disk: h.disk[class].Load()}); n != (cached{}) {
			all[store.Class(class).String()] = n
		}
	}
	return all
}

func tiersOf(s blockcache.Stats) tiers {
	return tiers{
		Memory: s.Memory, Zeros: s.Zeros, File: s.File, Store: s.Misses,
		Waits: s.Waits, Waited: s.Waited.Seconds(), Bytes: s.Bytes,
	}
}

func diskReportOf(c *diskcache.Cache) *diskReport {
	s := c.Stats()
	return &diskReport{
		Dir: c.String(), Budget: s.Budget, Bytes: s.Bytes, Hits: s.Hits, Misses: s.Misses,
		Kept: s.Kept, Evicted: s.Evicted, Failed: s.Failed,
	}
}

func originOf(where string, s fetch.Stats) originReport {
	o := originReport{
		Where: where, Window: s.Window, InFlight: s.InFlight, Queued: s.Queued,
		Latency: s.Latency.Seconds(), P95: s.P95.Seconds(), Hedges: s.Hedges, HedgesWon: s.HedgesWon, MadeWay: s.MadeWay,
		Classes: map[string]fetches{},
	}
	for class, n := range s.Class {
		if n != (fetch.Counts{}) {
			o.Classes[store.Class(class).String()] = fetches{
				Requests: n.Requests, Chunks: n.Chunks, Stored: n.Stored, Plain: n.Plain, Joined: n.Joined,
				Upgraded: n.Upgraded, Cancelled: n.Cancelled, Retries: n.Retries, Failed: n.Failed,
			}
		}
	}
	return o
}
