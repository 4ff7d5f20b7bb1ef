package fetch

// A line is a first-in, first-out list of flights. Its links are in the
// flights: to join, to leave from the middle, and to stand in it in millions
// costs nothing more.
type line struct {
	first, last *flight
	n           int
}

func (l *line) push(f *flight) {
	f.prev, f.next = l.last, nil
	if l.last == nil {
		l.first = f
	} else {
		l.last.next = f
	}
	l.last = f
	l.n++
}

// pushFront is for what has stood in line before.
func (l *line) pushFront(f *flight) {
	f.prev, f.next = nil, l.first
	if l.first == nil {
		l.last = f
	} else {
		l.first.prev = f
	}
	l.first = f
	l.n++
}

func (l *line) remove(f *flight) {
	if f.prev == nil {
		l.first = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next == nil {
		l.last = f.prev
	} else {
		f.next.prev = f.prev
	}
	f.prev, f.next = nil, nil
	l.n--
}
