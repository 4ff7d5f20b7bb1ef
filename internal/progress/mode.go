package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// A Mode is a way to show progress.
type Mode int

// The modes; see the package's documentation.
const (
	Auto     Mode = iota // Bar on a terminal, else Plain
	Bar                  // one line, drawn again and again
	Plain                // a line every few seconds
	JSON                 // an object on a line every second
	None                 // nothing
	Parsable             // desync's DESYNC_ENABLE_PARSABLE_PROGRESS; not chosen by a name
)

// names are the words for the modes that can be asked for.
var names = [...]string{Auto: "auto", Bar: "bar", Plain: "plain", JSON: "json", None: "none"}

// ParseMode reads the name of a mode.
func ParseMode(s string) (Mode, error) {
	for m, name := range names {
		if s == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("progress %q: want auto, bar, plain, json or none", s)
}

// String is the name of the mode.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(names) {
		return "parsable"
	}
	return names[m]
}

// every is the time between two reports.
func (m Mode) every() time.Duration {
	switch m {
	case Bar:
		return 100 * time.Millisecond
	case Parsable:
		return 500 * time.Millisecond
	case JSON:
		return time.Second
	}
	return patience
}

// on is the mode that stands behind m for what is written to w.
func (m Mode) on(w io.Writer) Mode {
	if m != Auto {
		return m
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		return Bar
	}
	return Plain
}

// columns is the width of the terminal behind w, 80 if there is none. It is
// asked for again for each line, as windows change their size.
func columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return n
		}
	}
	return 80
}
