// Package notify tells a service manager how the program is doing, over the
// socket that systemd names in $NOTIFY_SOCKET (sd_notify(3)).
//
//	err := notify.Send(notify.Ready, notify.Status("mounted on /mnt"))
//
// Without that variable nobody listens and nothing is sent.
package notify

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// What a service manager is told as it stands.
const (
	Ready    = "READY=1"    // start-up is over
	Stopping = "STOPPING=1" // shutdown has begun
)

// Status is the line that shows a person what goes on; line breaks in it
// become spaces.
func Status(text string) string {
	return "STATUS=" + strings.NewReplacer("\r", " ", "\n", " ").Replace(text)
}

// Send sends the assignments as one message. It does nothing if $NOTIFY_SOCKET
// is not set. An assignment with a line break would be read as two and is
// refused.
func Send(assignments ...string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	for _, a := range assignments {
		if strings.Contains(a, "\n") {
			return fmt.Errorf("notify: %q: line break", a)
		}
	}
	// '/' begins a path, '@' an abstract name; systemd's other transports are
	// for virtual machines.
	if socket[0] != '/' && socket[0] != '@' {
		return fmt.Errorf("notify: $NOTIFY_SOCKET %q: neither a path nor an abstract socket", socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}
