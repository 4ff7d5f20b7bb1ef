package prefetch

const (
	proof   = 3  // reads in a row that make a stream
	reorder = 16 // reads in flight, and so how far one may be from its place
)

// A run is a part of the image that was read without a gap, and if it is long
// enough, a sequential stream.
type run struct {
	lo, hi int64 // what was read; of a stream, the last part of it
	reads  int   // that made it, at most proof; 0: the slot is free
	open   bool  // it is a stream, and window counts
	window window
	stamp  int64 // of runs.clock, when last read
}

// runs are those last read.
type runs struct {
	all   [2 * reorder]run
	clock int64
	open  int
}

// find returns the run that a read continues, streams first, or nil.
func (rs *runs) find(rd read) *run {
	var found *run
	for i := range rs.all {
		u := &rs.all[i]
		if u.reads == 0 || rd.off < u.lo || rd.off > u.hi+u.slack(rd) {
			continue
		}
		if found == nil || u.open && !found.open {
			found = u
		}
	}
	return found
}

// slack is how far behind the end of a run a read may begin and still belong
// to it: a stream's reads may come out of order, as far as it was asked for.
func (u *run) slack(rd read) int64 {
	if !u.open {
		return 0
	}
	return max(min(reorder*rd.len(), u.window.asked-u.hi), 0)
}

// begin starts a run with a read, or lengthens one that it lies right in front
// of: that is a read that came too late, and no progress. It returns what the
// stream that had to make way has not read.
func (rs *runs) begin(rd read, l *limit) (unread int64) {
	rs.clock++
	oldest := &rs.all[0]
	for i := range rs.all {
		u := &rs.all[i]
		if u.reads > 0 && rd.off < u.lo && rd.end >= u.lo && rd.end <= u.hi {
			u.lo, u.stamp = rd.off, rs.clock
			return 0
		}
		if u.stamp < oldest.stamp {
			oldest = u
		}
	}
	unread = rs.drop(oldest, l)
	*oldest = run{lo: rd.off, hi: rd.end, reads: 1, stamp: rs.clock}
	return unread
}

// extend lengthens a run by a read, and by the runs that it now touches, which
// are no more. It returns what the streams among these have not read.
func (rs *runs) extend(u *run, rd read, l *limit) (unread int64) {
	rs.clock++
	u.stamp = rs.clock
	if rd.end <= u.hi {
		return 0 // read before
	}
	u.hi = rd.end
	reads := u.reads + 1
	for i := range rs.all {
		next := &rs.all[i]
		if next == u || next.reads == 0 || next.lo > u.hi || next.hi < u.lo {
			continue
		}
		u.hi = max(u.hi, next.hi)
		reads += next.reads
		unread += rs.drop(next, l)
	}
	u.reads = min(reads, proof)
	u.lo = max(u.lo, u.hi-reorder*rd.len())
	return unread
}

// prove makes a stream of a run.
func (rs *runs) prove(u *run, n int64, l *limit) {
	u.open = true
	u.window.open(u.hi, n, l)
	rs.open++
}

// drop frees a slot and returns what its stream, if it was one, has not read.
func (rs *runs) drop(u *run, l *limit) (unread int64) {
	if u.open {
		unread = u.window.end(u.hi, l)
		rs.open--
	}
	*u = run{}
	return unread
}

// close frees all slots and returns what their streams have not read.
func (rs *runs) close(l *limit) (unread int64) {
	for i := range rs.all {
		unread += rs.drop(&rs.all[i], l)
	}
	return unread
}
