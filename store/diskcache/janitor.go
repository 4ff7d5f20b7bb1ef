package diskcache

import (
	"iter"
	"math/bits"
	"slices"
	"strings"
	"time"
)

const (
	// countAge is when all files are looked at though nothing asks for it: the
	// usage file does not know of what users remove or make by themselves.
	countAge   = 6 * time.Hour
	firstCount = time.Minute // after a start, which has better things to do
	nextCount  = time.Hour

	// measureAge is when images are looked at that grow: at 1 Gbit/s, by 1 GB.
	measureAge = 10 * time.Second
)

// keepHouse looks at all files when somebody asks for it, or nobody has done so
// for long, until the cache is closed.
func (c *Cache) keepHouse() {
	timer := time.NewTimer(firstCount)
	defer timer.Stop()
	growth := time.NewTicker(measureAge)
	defer growth.Stop()
	for {
		select {
		case <-c.life.Done():
			return
		case <-growth.C:
			c.measureAll()
			continue
		case <-c.look:
		case <-timer.C:
			timer.Reset(nextCount)
		}
		began := time.Now()
		if c.tidy() {
			continue
		}
		// However often it is asked for in vain, it takes a fifth of a core.
		if !c.pause(4 * time.Since(began)) {
			return
		}
	}
}

// pause reports whether d passed before the cache was closed.
func (c *Cache) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.life.Done():
		return false
	}
}

// tidy counts what is there, and evicts if that is too much, unless another
// process does or has just done so. It reports whether it evicted something.
func (c *Cache) tidy() bool {
	p := c.enter()
	defer c.leave(p)
	if p.moved() {
		c.wrote(c.reopen(p))
		return false
	}
	unlock, ok := p.lock()
	if !ok {
		return false
	}
	defer unlock()
	c.settle(p, 0)
	before, ok := p.updateUsage(func(u usage, _ bool) usage { return u })
	age := time.Since(time.Unix(before.counted, 0))
	if !ok || before.total <= c.high() && age >= 0 && age < countAge {
		c.learn(before, ok)
		return false
	}
	found, freed := c.survey(p), int64(0)
	if before.total > c.high() && found.bytes > c.low() || found.bytes > c.budget {
		freed = c.evict(p, found, found.bytes-c.low())
		found.bytes -= freed
	}
	if c.life.Err() != nil {
		return false // not all was seen
	}
	after, ok := p.updateUsage(func(u usage, _ bool) usage {
		// What was written meanwhile may have been seen, or not.
		return usage{total: found.bytes + max(0, u.total-before.total), counted: time.Now().Unix()}
	})
	c.learn(after, ok)
	if ok && after.total > c.high() {
		c.wake()
	}
	return freed > 0
}

func (c *Cache) learn(u usage, ok bool) {
	if !ok {
		return
	}
	c.ledger.mu.Lock()
	c.ledger.total = u.total
	c.ledger.mu.Unlock()
}

// A survey is how many bytes were last used when: one sum for each age, to a
// 64th of it. The files themselves are not remembered; there may be many.
type survey struct {
	now   time.Time
	bytes int64
	ages  [64 << ageBits]int64
}

const ageBits = 6

// age is the bucket of an age, the higher the older. What was used in times to
// come, by a clock that was wrong, is the oldest.
func (s *survey) age(used time.Time) int {
	since := s.now.Sub(used)
	if since < -fresh {
		return len(s.ages) - 1
	}
	d := uint64(max(0, since))
	low := bits.Len64(d) - 1 - ageBits // how many bits do not count
	if low <= 0 {
		return int(d)
	}
	return low<<ageBits + int(d>>low)
}

// survey looks at all files.
func (c *Cache) survey(p *place) *survey {
	s := &survey{now: time.Now()}
	s.bytes = p.walk(func(f found) bool {
		s.ages[s.age(f.used)] += f.bytes
		return c.life.Err() == nil
	})
	return s
}

// evict removes what was used least lately until excess bytes are free, and
// returns how many are.
func (c *Cache) evict(p *place, s *survey, excess int64) (freed int64) {
	youngest, sum := len(s.ages)-1, s.ages[len(s.ages)-1]
	for youngest > 0 && sum < excess {
		youngest--
		sum += s.ages[youngest]
	}
	spare := sum - excess // what may stay of the youngest that go
	p.walk(func(f found) bool {
		switch age := s.age(f.used); {
		case age < youngest || !f.used.Before(s.now) && age < len(s.ages)-1:
		case age == youngest && spare >= f.bytes:
			spare -= f.bytes
		default:
			freed += c.remove(f)
		}
		return c.life.Err() == nil
	})
	return freed
}

// remove removes a file and what belongs to it, and returns what that frees.
func (c *Cache) remove(f found) (freed int64) {
	for _, file := range append([]string{f.file}, f.beside...) {
		if unlink(f.dir, file) == nil {
			freed = f.bytes
			c.evicted.Add(1)
		}
	}
	if f.room == imageRoom {
		c.forget(f.name)
	}
	return freed
}

// found is a file that a walk came across.
type found struct {
	name
	dir    int      // the folder's descriptor, during the visit
	beside []string // files that belong to it
	bytes  int64    // on disk, of all of them
	used   time.Time
}

func (f *found) add(bytes int64, used time.Time) {
	f.bytes += bytes
	if used.After(f.used) {
		f.used = used
	}
}

// alone gives each name as a group.
func alone(names []string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for i := range names {
			if !yield(names[i : i+1]) {
				return
			}
		}
	}
}

// together gives groups of names: the first is a file, the others belong to it,
// like NAME.map to NAME.
func together(names []string) iter.Seq[[]string] {
	slices.Sort(names)
	owner := func(n string) string {
		if dot := strings.LastIndexByte(n, '.'); dot > 0 {
			if _, ok := slices.BinarySearch(names, n[:dot]); ok {
				return n[:dot]
			}
		}
		return n
	}
	return func(yield func([]string) bool) {
		groups := make(map[string][]string)
		for _, n := range names {
			groups[owner(n)] = append(groups[owner(n)], n)
		}
		for _, n := range names {
			if group, ok := groups[n]; ok && group[0] == n && !yield(group) {
				return
			}
		}
	}
}
