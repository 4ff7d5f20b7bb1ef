package fetch

import (
	"container/heap"
	"time"

	"caravel/store"
)

// alarms holds the flights that something must be done for at a certain time,
// the next one first. One timer serves them all, and a background flight that
// is queued is none of them.
type alarms []*flight

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].due.Before(a[j].due) }

func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].alarm, a[j].alarm = i+1, j+1
}

func (a *alarms) Push(x any) {
	f := x.(*flight)
	*a = append(*a, f)
	f.alarm = len(*a)
}

func (a *alarms) Pop() any {
	old := *a
	f := old[len(old)-1]
	old[len(old)-1] = nil
	*a = old[:len(old)-1]
	f.alarm = 0
	return f
}

// arm sets the alarm of f for the state that it is in.
func (q *Queue) arm(f *flight) {
	f.due = q.nextDue(f)
	switch {
	case f.alarm == 0 && f.due.IsZero():
	case f.alarm == 0:
		heap.Push(&q.alarms, f)
	case f.due.IsZero():
		heap.Remove(&q.alarms, f.alarm-1)
	default:
		heap.Fix(&q.alarms, f.alarm-1)
	}
	q.ringAt(f.due)
}

// nextDue is when f needs attention; zero: only when something else happens.
func (q *Queue) nextDue(f *flight) time.Time {
	switch f.state {
	case queued:
		return q.deadline(f)
	case flying:
		due := earlier(q.deadline(f), f.hedgeAt)
		for _, a := range f.attempts {
			due = earlier(due, a.until)
		}
		return due
	case resting:
		return earlier(q.deadline(f), f.wake)
	}
	return time.Time{}
}

// deadline is when f is given up; zero: never. Background is limited by its
// tries, since it may wait in line for as long as it takes.
func (q *Queue) deadline(f *flight) time.Time {
	if q.opt.Timeout < 0 || f.class != store.Demand {
		return time.Time{}
	}
	return f.since.Add(q.opt.Timeout)
}

// earlier is the earlier one of two times, zero being never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// ringAt makes the timer go off no later than at t.
func (q *Queue) ringAt(t time.Time) {
	if t.IsZero() || (!q.armed.IsZero() && !t.Before(q.armed)) {
		return
	}
	q.armed = t
	q.ring.Reset(time.Until(t))
}

// watch does what is due, until the end of the queue.
func (q *Queue) watch() {
	for {
		select {
		case <-q.ring.C:
			q.attend()
		case <-q.life.Done():
			q.ring.Stop()
			return
		}
	}
}

func (q *Queue) attend() {
	q.mu.Lock()
	defer q.unlock()
	now := time.Now()
	q.armed = time.Time{}
	for len(q.alarms) > 0 && !q.alarms[0].due.After(now) {
		q.wakeUp(q.alarms[0], now)
	}
	q.dispatch()
	if len(q.alarms) > 0 {
		q.ringAt(q.alarms[0].due)
	}
	for _, t := range []time.Time{q.pauseDemand, q.pauseOthers} {
		if t.After(now) {
			q.ringAt(t)
		}
	}
}

// wakeUp does what is due for f, and leaves it with a later alarm or none.
func (q *Queue) wakeUp(f *flight, now time.Time) {
	if t := q.deadline(f); !t.IsZero() && !t.After(now) {
		q.giveUp(f, f.last, now)
		return
	}
	switch f.state {
	case resting:
		f.state = queued
		q.queued[f.class].pushFront(f)
	case flying:
		for _, a := range f.attempts {
			if !a.until.IsZero() && !a.until.After(now) {
				a.cancel(stalled(now.Sub(a.sent)))
				a.until = time.Time{}
				f.stalls++
				q.window.punish(now, 0.5)
			}
		}
		if !f.hedgeAt.IsZero() && !f.hedgeAt.After(now) {
			q.hedge(f, now)
		}
	}
	q.arm(f)
}
