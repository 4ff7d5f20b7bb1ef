package server

import (
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A loop reads requests from a connection, and answers them, one after the other.
type loop struct {
	front *front
	conn  net.Conn
	sock  *socket // conn
	one   *conn
	until time.Time // the deadline for reading that is set
	clock clock
	have  int // bytes of head that were read
	head  [2 << 10]byte
}

// newLoop is nil if a connection is of a kind that a loop does not know.
func newLoop(f *front, c net.Conn, one *conn) *loop {
	sys, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil
	}
	return &loop{front: f, conn: c, sock: newSocket(raw), one: one}
}

// An ending is how an answer ended.
type ending int

const (
	answered ending = iota
	another         // nothing was sent: the request is none that is answered here
	broken          // nothing more can be sent
)

// run answers plain requests. true: what it has of the next one is for net/http.
func (l *loop) run() (others bool) {
	for {
		if l.have == 0 && !l.read() {
			return false
		}
		req, ok := parsePlain(l.head[:l.have])
		if !ok {
			return true
		}
		switch l.answer(req) {
		case another:
			return true
		case broken:
			return false
		}
		l.have = copy(l.head[:], l.head[req.size:l.have])
	}
}

// rest is what was read and not answered.
func (l *loop) rest() []byte { return l.head[:l.have] }

// read waits for a request. A client has as long as with net/http: for its first one as
// for its headers, and then to be idle, give or take a fourth.
func (l *loop) read() bool {
	now := time.Now()
	switch {
	case l.until.IsZero():
		l.until = now.Add(l.front.server.opt.Stall)
		_ = l.conn.SetReadDeadline(l.until)
	case l.until.Sub(now) < idle*3/4:
		l.until = now.Add(idle)
		_ = l.conn.SetReadDeadline(l.until)
	}
	if l.front.ending.Load() { // and its deadline may just have been overwritten
		return false
	}
	n, err := l.sock.Read(l.head[:])
	l.have = n
	return err == nil
}

// answer answers a request with a file.
func (l *loop) answer(req plainRequest) (how ending) {
	s := l.front.server
	if !s.opt.Auth.already(req.authorization) {
		return another
	}
	began := time.Now()
	s.conns.begin(l.one)
	defer s.conns.end(l.one)
	f, ok := l.front.files.lies(req.path)
	if !ok {
		return another
	}
	last := l.front.ending.Load()
	head := func(b []byte) []byte { return appendHead(b, f, l.clock.date(began), last) }
	var sent int64
	if b := l.front.buffers.lend(); b == nil || f.info.Size > int64(len(b)-plainHead) {
		how, sent = l.sendFile(f, head(make([]byte, 0, plainHead)))
		closeFile(f.fd)
	} else {
		how, sent = l.sendWhole(f, head(b[:0]))
		l.front.buffers.back(b)
	}
	if how == another {
		return another
	}
	s.metrics.count(request{http.MethodGet, http.StatusOK}, sent, time.Since(began))
	if s.opt.Requests != nil {
		s.note(l.conn.RemoteAddr().String(), http.MethodGet, string(req.path), http.StatusOK)
	}
	if last {
		return broken
	}
	return how
}

// sendWhole sends head and file by one call, and closes the file before: a client that
// takes its time holds none open. There is room for the file behind head.
func (l *loop) sendWhole(f lying, head []byte) (how ending, sent int64) {
	all := head[:len(head)+int(f.info.Size)]
	body := all[len(head):]
	ok := readFull(f.fd, body)
	closeFile(f.fd)
	if !ok || !f.is(body) {
		return another, 0
	}
	l.front.server.metrics.direct.Add(1)
	l.arm()
	n, err := l.sock.Write(all)
	sent = int64(max(n-len(head), 0))
	if err != nil {
		return broken, sent
	}
	return answered, sent
}

// sendFile sends head, and has the kernel send the file.
func (l *loop) sendFile(f lying, head []byte) (how ending, sent int64) {
	var begin [4]byte
	if !readFull(f.fd, begin[:min(f.info.Size, 4)]) || !f.is(begin[:]) {
		return another, 0
	}
	l.front.server.metrics.direct.Add(1)
	l.arm()
	for len(head) > 0 {
		n, err := l.sock.call(func(fd int) (int, error) {
			return unix.SendmsgN(fd, head, nil, nil, unix.MSG_MORE) // in one packet with the first of the file
		})
		if err != nil {
			return broken, 0
		}
		head = head[n:]
	}
	for sent < f.info.Size {
		l.arm()
		n, err := l.sock.call(func(fd int) (int, error) {
			return unix.Sendfile(fd, f.fd, nil, int(min(f.info.Size-sent, pace)))
		})
		if err != nil || n == 0 { // it has become shorter: nobody is to take it for whole
			return broken, sent
		}
		sent += int64(n)
	}
	return answered, sent
}

// arm gives the client more time to take what is sent, as an answer of net/http does.
func (l *loop) arm() {
	stall := l.front.server.opt.Stall
	now := time.Now()
	if l.one.until.Sub(now) > stall*3/4 {
		return
	}
	l.one.until = now.Add(stall)
	_ = l.conn.SetWriteDeadline(l.one.until)
}

// disarm takes away the limit of time for what is sent, which net/http does not set.
func (l *loop) disarm() {
	if !l.one.until.IsZero() {
		l.one.until = time.Time{}
		_ = l.conn.SetWriteDeadline(l.one.until)
	}
}
