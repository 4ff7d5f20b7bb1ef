package main

import (
	"io"
	"os"

	"github.com/urfave/cli/v2"
)

// streams are where a command reads and writes.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	log io.Writer // what is logged; the errors of commands are for err

	ready func() error // called when what the command offers can be used, and has said so; nil: nothing is
}

func streamsOf(c *cli.Context) streams {
	return streams{in: c.App.Reader, out: c.App.Writer, err: c.App.ErrWriter, log: c.App.ErrWriter}
}

// argument is the nth argument, or what stands for it if there are fewer. One
// that is there but empty, a script's unset variable, is no reason to take
// another place.
func argument(c *cli.Context, n int, otherwise string) string {
	if n < c.NArg() {
		return c.Args().Get(n)
	}
	return otherwise
}

// fed reports whether there is something on standard input, which a command
// then reads if nothing else is named: a file or a pipe, no terminal.
func (s streams) fed() bool {
	f, ok := s.in.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice == 0
}
