package nbddev

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A Serving answers the kernel on the links of one device, and replaces those
// that are lost. Its methods may be called from many goroutines.
type Serving struct {
	serve    func(context.Context, net.Conn) error
	life     context.Context
	end      context.CancelFunc
	work     sync.WaitGroup
	attached chan struct{} // closed when device is there
	device   *Device       // nil until then
	over     chan struct{} // closed when the device is gone, or cannot be served any more

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]struct{}
	ended bool // over is closed
	err   error
}

// Serve begins to answer on links with serve, which returns nil when the device
// was detached, io.EOF when its link is lost, and the context's error, all
// requests being answered, when that has ended.
func Serve(links []*Link, serve func(context.Context, net.Conn) error) *Serving {
	s := &Serving{
		serve:    serve,
		attached: make(chan struct{}),
		over:     make(chan struct{}),
		conns:    make(map[net.Conn]struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	for _, l := range links {
		s.work.Go(func() { s.keep(l.Conn) })
	}
	return s
}

// Of says which device it is: lost links are replaced from now on. It is called
// once.
func (s *Serving) Of(d *Device) {
	s.device = d
	close(s.attached)
}

// Over is closed when the device is gone, whoever detached it, or when it cannot
// be served any more; Stop says which.
func (s *Serving) Over() <-chan struct{} { return s.over }

// Stop waits until what was taken is answered, and lets go of the links. The
// error is nil if they were all in order, so that who has their [Serving.Files]
// can go on with them, or if the device is gone.
func (s *Serving) Stop() error {
	s.end()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Files are other descriptors of the links, for [Resume] in another process. The
// caller closes them.
func (s *Serving) Files() ([]*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*os.File
	for c := range s.conns {
		f, err := c.(*net.UnixConn).File()
		if err != nil {
			return all, err
		}
		all = append(all, f)
	}
	return all, nil
}

// Resume makes links of the files of another process's Serving, and closes them.
func Resume(files []*os.File) ([]*Link, error) {
	var links []*Link
	for _, f := range files {
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			closeLinks(links)
			return nil, err
		}
		links = append(links, &Link{conn, -1})
	}
	return links, nil
}

// The pauses before a link that did not last is replaced.
const (
	firstPause   = 10 * time.Millisecond
	longestPause = time.Second
)

// keep serves one link after another, each in the place of the last.
func (s *Serving) keep(conn net.Conn) {
	pause := firstPause
	for {
		began := time.Now()
		err := s.once(conn)
		switch {
		case s.life.Err() != nil:
			s.note(unclean(err))
			return
		case !errors.Is(err, io.EOF):
			s.finish(err)
			return
		}
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		if conn = s.replace(pause); conn == nil {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// unclean is what made a link end other than as it was told to.
func unclean(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Serving) once(conn net.Conn) error {
	s.mu.Lock()
	s.conns[conn] = struct{}{}
	s.mu.Unlock()
	err := s.serve(s.life, conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	return err
}

// replace gives the kernel a new link. It returns nil when there is no use in it.
func (s *Serving) replace(pause time.Duration) net.Conn {
	select {
	case <-s.attached:
	case <-s.life.Done():
		return nil
	}
	select {
	case <-time.After(pause):
	case <-s.life.Done():
		return nil
	}
	if !s.device.Attached() {
		s.finish(nil)
		return nil
	}
	links, err := NewLinks(1)
	if err == nil {
		err = s.device.Reattach(links)
	}
	if err == nil {
		return links[0].Conn
	}
	closeLinks(links)
	if !s.device.Attached() {
		err = nil
	}
	s.finish(err)
	return nil
}

// finish ends it all: what ends one link first ends the others, too.
func (s *Serving) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.err = true, err
		close(s.over)
	}
}

// note keeps what went wrong with a link that was told to end.
func (s *Serving) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !s.ended {
		s.err = err
	}
}
