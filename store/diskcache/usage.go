package diskcache

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
	"time"
)

// A ledger is what this process knows of the bytes in the directory. All
// processes write to the usage file, each only now and then: it takes leave
// for step bytes and spends them before it comes again.
type ledger struct {
	step int64

	mu     sync.Mutex // guards what follows
	total  int64      // of all processes, as of the last look, with our credit
	credit int64      // bytes taken leave for, not spent
}

func (l *ledger) bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.total-l.credit)
}

// spend takes n bytes of the credit. due is what is missing to begin the next
// step, 0 if nothing is; over says that all of them have more than limit.
func (l *ledger) spend(n, limit int64) (due int64, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total-l.credit+n > limit {
		return 0, true
	}
	l.credit -= n
	if l.credit < 0 {
		due = l.step - l.credit
	}
	return due, false
}

// refund gives back what was not used, or was freed. much says that others
// should know.
func (l *ledger) refund(n int64) (much bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.credit += n
	return l.credit > 2*l.step
}

// A usage is the content of the usage file.
type usage struct {
	total   int64 // bytes in the directory, and those that processes took leave for
	counted int64 // when all files were last looked at, in seconds since 1970
}

const (
	usageMagic = "ccuse\x00\x00\x01"
	usageSize  = len(usageMagic) + 8 + 8 + 4
)

func (u usage) encode() []byte {
	b := append(make([]byte, 0, usageSize), usageMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(u.total))
	b = binary.LittleEndian.AppendUint64(b, uint64(u.counted))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// decodeUsage reports false for what is no usage.
func decodeUsage(b []byte) (usage, bool) {
	if len(b) != usageSize || string(b[:len(usageMagic)]) != usageMagic {
		return usage{}, false
	}
	body, sum := b[:usageSize-4], b[usageSize-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return usage{}, false
	}
	u := usage{
		total:   int64(binary.LittleEndian.Uint64(body[8:])),
		counted: int64(binary.LittleEndian.Uint64(body[16:])),
	}
	return u, u.total >= 0 && u.total < 1<<60
}

// count learns what is in a directory that was just opened. In one that we made
// that is nothing; where nobody knows, the janitor looks.
func (c *Cache) count(p *place) {
	c.ledger.mu.Lock()
	c.ledger.credit = 0 // it was taken leave for elsewhere
	c.ledger.mu.Unlock()
	known := false
	u, ok := p.updateUsage(func(u usage, valid bool) usage {
		known = valid || p.fresh
		if !valid && p.fresh {
			u.counted = time.Now().Unix()
		}
		return u
	})
	if ok {
		c.ledger.mu.Lock()
		c.ledger.total = u.total
		c.ledger.mu.Unlock()
	}
	if ok && (!known || u.total > c.high()) {
		c.wake()
	}
}

// charge takes n bytes of what may be used. It reports false if that is so much
// more than the budget that nothing may be written until others have evicted.
func (c *Cache) charge(p *place, n int64) bool {
	due, over := c.ledger.spend(n, c.budget+c.budget/16)
	if over {
		c.wake()
		return false
	}
	if due > 0 {
		c.book(p, due)
	}
	return true
}

// chargeSoon is charge for those who can wait for eviction, which need not be
// ours, for a moment; where it does not keep up, the next ones do not wait.
func (c *Cache) chargeSoon(p *place, n int64) bool {
	const (
		look = 20 * time.Millisecond
		most = 2 * time.Second
	)
	for began := time.Now(); !c.charge(p, n); {
		if c.overfull.down() {
			return false
		}
		if time.Since(began) > most {
			c.overfull.begin()
			return false
		}
		if !c.pause(look) {
			return false
		}
		u, ok := p.updateUsage(func(u usage, _ bool) usage { return u })
		c.learn(u, ok)
	}
	return true
}

// settle writes to the usage file what differs from a credit of keep bytes.
func (c *Cache) settle(p *place, keep int64) {
	c.ledger.mu.Lock()
	due := keep - c.ledger.credit
	c.ledger.mu.Unlock()
	if due != 0 {
		c.book(p, due)
	}
}

// book adds to the usage file what is taken leave for. If that does not work
// now, the credit stays below nothing, and the next call makes up for it.
func (c *Cache) book(p *place, due int64) {
	u, ok := p.updateUsage(func(u usage, _ bool) usage {
		u.total = max(0, u.total+due)
		return u
	})
	if !ok {
		return
	}
	c.ledger.mu.Lock()
	c.ledger.credit += due
	c.ledger.total = u.total
	c.ledger.mu.Unlock()
	if u.total > c.high() {
		c.wake()
	}
}

// high is when to evict; low is how much then stays.
func (c *Cache) high() int64 { return c.budget - c.budget/32 }
func (c *Cache) low() int64  { return c.budget - c.budget/10 }

// wake has the janitor look.
func (c *Cache) wake() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}
