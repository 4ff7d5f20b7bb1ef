package main

import (
	"cmp"
	"fmt"

	"caravel/server"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/local"
	"caravel/store/open"
)

// A passedOn is the store whose chunks a server passes on. A chunk that many ask for
// at a time is got, and kept in the cache, once. With --store-file it is one of other
// stores from time to time.
type passedOn struct {
	*fetch.Queue
	near   *nearFolders     // that are asked before anything behind a network
	writer *exchangedWriter // where chunks go that clients bring; nil: nowhere
	swap   *store.Swap      // what Queue asks; nil without --store-file
	made   func() (behind, error)
}

// What is behind a server.
type behind struct {
	store  store.Store
	near   []server.Files
	writer store.Writer // nil: nothing is written
}

// passes is how many chunks are got at a time for all clients together: the queues
// behind know better how many their origins can give.
const passes = 256

// passOn puts together what a server passes on, of the stores that the user has named.
func (o *opener) passOn(written bool) (*passedOn, error) {
	o.serves = true
	o.stacks.Lock()
	defer o.stacks.Unlock()
	b, err := o.behind(written)
	if err != nil {
		return nil, err
	}
	p := &passedOn{near: newNearFolders(b.near), made: func() (behind, error) { return o.behind(written) }}
	if written {
		p.writer = newExchangedWriter(b.writer)
	}
	s := b.store
	if o.opt.storeFile != "" {
		p.swap = store.NewSwap(s)
		s = p.swap
		o.passed = append(o.passed, p)
	}
	p.Queue = fetch.New(s, fetch.Options{MinWindow: passes, MaxWindow: passes, Tries: 1, Try: -1, Timeout: -1, NoHedge: true, Log: o.log})
	return p, nil
}

// exchange puts other stores in the place of those that are there.
func (p *passedOn) exchange(b behind) {
	// In the order in which a request asks: nobody finds a folder that is not served
	// any more behind a store that is.
	p.swap.Put(b.store)
	p.near.put(b.near)
	if p.writer != nil {
		p.writer.put(b.writer)
	}
}

// behind opens the stores: in front the cache that the user named, then the others in
// their order. The one that is written to need not be there yet.
func (o *opener) behind(written bool) (b behind, err error) {
	locations := o.opt.allStores()
	if written && (len(locations) > 1 || o.opt.cache != "") {
		return b, usagef("--writable is for one store, without a cache")
	}
	where := o.where
	key := where.Form.Key // what is encrypted in one of them is not kept otherwise
	where.Wrap = func(s store.Store, from open.Origin) store.Store {
		key = cmp.Or(key, from.Key)
		return o.queue(s, from)
	}
	near := true // so far
	if o.opt.cache != "" {
		near = b.add(o.opt.cache, local.Options{Renew: renewNamed})
	}
	var all []store.Store
	for _, l := range locations {
		near = near && b.add(l, local.Options{})
		s, err := o.passedStore(l, where, written)
		if err != nil {
			return b, err
		}
		all = append(all, s)
	}
	if written {
		if b.writer, err = open.Writer(locations[0], o.where); err != nil {
			return b, err
		}
	}
	b.store = all[0]
	if o.opt.severalStores() {
		b.store = store.Retry(store.Router(o.log, all...), o.where.Timeout)
	}
	if o.opt.cache == "" {
		return b, nil
	}
	where.Wrap, where.Renew, where.Form.Key = nil, renewNamed, key
	kept, err := open.Writer(o.opt.cache, where)
	if err != nil {
		return b, err
	}
	b.store = store.Cache(kept, b.store, o.log)
	return b, nil
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
func (b *behind) add(location string, opt local.Options) bool {
	dir := open.Path(location)
	if dir == "" {
		return false
	}
	b.near = append(b.near, local.New(dir, opt))
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
