package walk

// A sink is where the encoder writes: the buffer of the Read that is under way.
// What does not fit in waits for the next one.
type sink struct {
	p     []byte
	n     int      // of p that is written
	more  [][]byte // what waits
	sent  int      // of more[0] that does not any more
	spare []byte   // for more
	total int64    // ever written
}

// spareSize is the size of what more consists of. Pieces, because the table of
// a folder of a million files takes 24 MB, which need not be moved about.
const spareSize = 128 << 10

// take begins a Read into p.
func (s *sink) take(p []byte) {
	s.p, s.n = p, 0
	for s.waiting() && s.room() > 0 {
		n := copy(s.rest(), s.more[0][s.sent:])
		s.n += n
		if s.sent += n; s.sent == len(s.more[0]) {
			s.spare, s.sent = s.more[0][:0], 0
			s.more[0] = nil
			s.more = s.more[1:]
		}
	}
}

// waiting reports whether something did not fit in.
func (s *sink) waiting() bool { return len(s.more) > 0 }

// room is how many bytes still fit in.
func (s *sink) room() int { return len(s.p) - s.n }

// rest is where the next bytes go. Who puts them there before they are written
// saves the copying.
func (s *sink) rest() []byte { return s.p[s.n:] }

// give ends a Read and returns how much was written.
func (s *sink) give() int {
	s.p = nil
	return s.n
}

func (s *sink) Write(b []byte) (int, error) {
	size := len(b)
	s.total += int64(size)
	if room := s.rest(); size > 0 && size <= len(room) && &b[0] == &room[0] {
		s.n += size // they are there
		return size, nil
	}
	n := copy(s.rest(), b)
	s.n += n
	s.keep(b[n:])
	return size, nil
}

// keep makes b wait.
func (s *sink) keep(b []byte) {
	for len(b) > 0 {
		last := len(s.more) - 1
		if last < 0 || len(s.more[last]) == cap(s.more[last]) {
			if s.spare == nil {
				s.spare = make([]byte, 0, spareSize)
			}
			s.more = append(s.more, s.spare)
			s.spare = nil
			last++
		}
		block := s.more[last]
		n := copy(block[len(block):cap(block)], b)
		s.more[last] = block[:len(block)+n]
		b = b[n:]
	}
}
