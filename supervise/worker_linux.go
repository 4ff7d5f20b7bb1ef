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
	s := &Supervisor{line: l, giveWay: make(chan struct{})}
	if s.Legacy, err = receive(l); err != nil {
		l.Close()
		return nil, fmt.Errorf("supervise: what the worker before left: %w", err)
	}
	go func() {
		if _, err := receive(l); err == nil { // the supervisor asks for one thing only
			close(s.giveWay)
		}
	}()
	return s, nil
}

// GiveWay is closed when another worker is to take this one's place: it leaves
// what that needs, and ends with status 0. If the supervisor is killed, the worker
// goes on by itself. It may be called on nil.
func (s *Supervisor) GiveWay() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.giveWay
}

// Leave keeps l for the next worker in place of what was left before, whose files
// the supervisor closes; those of l stay the caller's, too. Having left something once, the worker counts as well started:
// it is started again if it crashes. It may be called on nil.
func (s *Supervisor) Leave(l Legacy) error {
	if s == nil {
		return nil
	}
	return send(s.line, l)
}
