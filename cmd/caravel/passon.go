package main

import (
	"fmt"

	"caravel/server"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/local"
	"caravel/store/open"
)

// A passedOn is the store whose chunks a server passes on. A chunk that many ask for
// at a time is got, and kept in the cache, once.
type passedOn struct {
	*fetch.Queue
	files []server.Files // folders that are asked before anything behind a network
}

// passes is how many chunks are got at a time for all clients together: the queues
// behind know better how many their origins can give.
const passes = 256

// passOn puts together what a server passes on: in front the cache that the user named,
// then the stores in their order. The one that is written to need not be there yet.
func (o *opener) passOn(locations []string, written bool) (*passedOn, error) {
	o.serves = true
	p := &passedOn{}
	where := o.where
	where.Wrap = o.queue
	var all []store.Store
	near := true // so far
	if o.opt.cache != "" {
		near = p.add(o.opt.cache, local.Options{Renew: renewNamed})
	}
	for _, l := range locations {
		near = near && p.add(l, local.Options{})
		s, err := o.passedStore(l, where, written)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	s := all[0]
	if o.opt.severalStores() {
		s = store.Retry(store.Router(o.log, all...), o.where.Timeout)
	}
	if o.opt.cache != "" {
		where.Wrap, where.Renew = nil, renewNamed
		kept, err := open.Writer(o.opt.cache, where)
		if err != nil {
			return nil, err
		}
		s = store.Cache(kept, s, o.log)
	}
	p.Queue = fetch.New(s, fetch.Options{MinWindow: passes, MaxWindow: passes, Tries: 1, Try: -1, Timeout: -1, NoHedge: true, Log: o.log})
	return p, nil
}

// passedStore opens one store.
func (o *opener) passedStore(location string, where open.Options, written bool) (store.Store, error) {
	if !written {
		return open.Store(location, where)
	}
	w, err := open.Writer(location, where)
	if err != nil {
		return nil, err
	}
	return store.Verify(w), nil
}

// add adds a folder; false if the location is behind a network.
func (p *passedOn) add(location string, opt local.Options) bool {
	dir := open.Path(location)
	if dir == "" {
		return false
	}
	p.files = append(p.files, local.New(dir, opt))
	return true
}

// gauges say what was asked of each origin.
func (o *opener) gauges() (all []server.Gauge) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum := func(q *fetch.Queue, of func(fetch.Counts) int64) func() float64 {
		return func() float64 {
			n := int64(0)
			for _, c := range q.Stats().Class {
				n += of(c)
			}
			return float64(n)
		}
	}
	for _, g := range []struct {
		name, help string
		of         func(fetch.Counts) int64
	}{
		{"caravel_store_requests_total", "Requests to a store, with those that were tried again.", func(c fetch.Counts) int64 { return c.Requests }},
		{"caravel_store_chunks_total", "Chunks that came from a store.", func(c fetch.Counts) int64 { return c.Chunks }},
		{"caravel_store_bytes_total", "Bytes of chunks that came from a store.", func(c fetch.Counts) int64 { return c.Stored }},
		{"caravel_store_failed_total", "Fetches from a store that ended in an error.", func(c fetch.Counts) int64 { return c.Failed }},
	} {
		for where, q := range o.queues {
			all = append(all, server.Gauge{Name: g.name, Help: g.help, Labels: fmt.Sprintf("store=%q", where), Value: sum(q, g.of)})
		}
	}
	return all
}
