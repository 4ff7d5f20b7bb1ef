package supervise

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// variable tells a worker which descriptor its supervisor is at.
const variable = "CARAVEL_SUPERVISOR"

// A Supervisor is seen from its worker.
type Supervisor struct {
	Legacy Legacy // of the worker before; empty: there was none, or it left nothing

	line    *net.UnixConn
	giveWay chan struct{}
}

// Find returns the supervisor of this process, nil if there is none. It is called
// once.
func Find() (*Supervisor, error) {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(variable) // what the worker starts is not supervised
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("supervise: $%s: %w", variable, err)
	}
	unix.CloseOnExec(fd)
	l, err := line(os.NewFile(uintptr(fd), "supervisor"))
	if err != nil {
		return nil, err
	}
	s := &Supervisor{line: l, giveWay: make(chan struct{}, 1)}
	if s.Legacy, err = receive(l); err != nil {
		l.Close()
		return nil, fmt.Errorf("supervise: what the worker before left: %w", err)
	}
	go s.listen()
	return s, nil
}

// listen takes note of what the supervisor asks for, which is one thing only.
func (s *Supervisor) listen() {
	for {
		if _, err := receive(s.line); err != nil {
			return
		}
		s.giveWay <- struct{}{} // which has room: it asks again when it has an answer
	}
}

// GiveWay has something when another worker is to take this one's place: it leaves
// what that needs, and ends with status 0, or says that it stays. If the supervisor
// is killed, the worker goes on by itself. It may be called on nil.
func (s *Supervisor) GiveWay() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.giveWay
}

// Stay says that this worker does not give way: it goes on, may be asked again, and
// when it ends it has not been replaced.
func (s *Supervisor) Stay() error { return send(s.line, Legacy{stays: true}) }

// Leave keeps l for the next worker in place of what was left before, whose files
// the supervisor closes; those of l stay the caller's, too. Having left something
// once, the worker counts as well started: it is started again if it crashes. It may
// be called on nil.
func (s *Supervisor) Leave(l Legacy) error {
	if s == nil {
		return nil
	}
	return send(s.line, l)
}
