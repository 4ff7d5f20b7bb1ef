package progress_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/internal/progress"
)

// terminal opens a pseudo terminal of the given width: what is written to tty
// is read from the master's end.
func terminal(t *testing.T, width uint16) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo terminals: ", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: width}); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return master, tty
}

// TestAutoOnTerminal waits for the bar's first line, which must fit, and then
// until nothing of the bar is left.
func TestAutoOnTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	const width = 30
	master, tty := terminal(t, width)
	p := progress.New(tty, progress.Auto, "extract a-very-long-name.caibx", 1<<30)
	p.Set(1 << 29)

	var sent []byte
	read := func() {
		buf := make([]byte, 4096)
		n, err := master.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, buf[:n]...)
	}
	for len(sent) < 2 {
		read()
	}
	p.Done(errors.New("interrupted"))
	for !bytes.HasSuffix(sent, []byte(" \r")) {
		read()
	}
	for line := range bytes.SplitSeq(sent, []byte("\r")) {
		if len(line) >= width || bytes.ContainsAny(line, "\n") {
			t.Errorf("%d columns in a terminal of %d: %q", len(line), width, line)
		}
	}
	if left := screen(sent); len(left) != 1 || left[0] != "" {
		t.Errorf("left %q", left)
	}
}
