package prefetch

import "time"

// A pace spreads what is fetched evenly over time: what is not used of a second
// is not made up for in the next.
type pace struct {
	rate int64     // bytes a second; 0: as fast as it goes
	due  time.Time // when the next request may be made
}

// rest is the time until a request may be made.
func (p *pace) rest() time.Duration {
	if p.rate <= 0 {
		return 0
	}
	return max(time.Until(p.due), 0)
}

// spend counts n bytes; fewer than 0 are given back.
func (p *pace) spend(n int64) {
	if p.rate <= 0 {
		return
	}
	if now := time.Now(); p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
}
