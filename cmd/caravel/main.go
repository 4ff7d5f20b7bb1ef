// Caravel delivers file systems and disk images as chunks in casync's formats and
// reads them lazily. Each command is a file of this folder; what it does lies
// in the rooms beside it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/internal/redact"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1 // or interrupted
	exitUsage  = 2
)

func main() {
	ctx := interruptible()
	stdin, stdout := reopened(ctx, os.Stdin, os.O_RDONLY), reopened(ctx, os.Stdout, os.O_WRONLY)
	words, fake := asMountHelper(os.Args)
	if fake {
		os.Exit(exitDone)
	}
	os.Exit(run(ctx, newApp(stdin, stdout, os.Stderr), words))
}

// reopened opens a standard stream anew if it is a pipe or a terminal. It is
// closed when ctx ends, and so ends what waits for it, which the one inherited
// would not. Anything else is returned as it is: a file goes on where it is
// read or written next.
func reopened(ctx context.Context, std *os.File, flag int) *os.File {
	st, err := std.Stat()
	if err != nil || st.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) == 0 || runtime.GOOS != "linux" {
		return std // elsewhere a new one is the same again
	}
	f, err := os.OpenFile(std.Name(), flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return std
	}
	context.AfterFunc(ctx, func() { f.Close() })
	return f
}

// errInterrupted is why a command ends that was told to.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that ends with the first SIGINT, SIGTERM or
// SIGHUP. The second one ends the program at once. A signal that whoever
// started the program has it ignore (nohup) stays ignored.
//
// SIGPIPE is taken note of and no more, so that a write to a pipe without a
// reader is an error like any other, after which temporary files are removed.
func interruptible() context.Context {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ends := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(ends, s)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go obey(ends, cancel, os.Exit)
	return ctx
}

// oneSignal is how long the same signal may come again and still count as one:
// timeout(1) sends it to the process and to its group.
const oneSignal = 100 * time.Millisecond

// obey ends the command with the first signal and the program with the second.
func obey(signals <-chan os.Signal, cancel func(error), exit func(status int)) {
	first, came := <-signals, time.Now()
	cancel(errInterrupted)
	for s := range signals {
		if s != first || time.Since(came) >= oneSignal {
			exit(exitFailed)
			return
		}
	}
}

// run runs the command of app that args call for, reports its error and returns
// the exit status.
func run(ctx context.Context, app *cli.App, args []string) int {
	line, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, line.argv(app.Name))
	}
	if err == nil || errors.Is(err, errHelped) {
		return exitDone
	}
	var said *statusError
	if errors.As(err, &said) {
		return said.status
	}
	text, status := oneLine(err.Error()), exitFailed
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		text, status = usage.in(line.command), exitUsage
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, os.ErrClosed)):
		text = errInterrupted.Error()
	}
	fmt.Fprintf(app.ErrWriter, "caravel: %s\n", redacted(text, args))
	return status
}

// redacted is an error without the secrets of the locations that were typed:
// what is printed ends up in logs.
func redacted(text string, args []string) string {
	for _, arg := range args {
		if at := strings.Index(arg, "="); strings.HasPrefix(arg, "-") && at > 0 {
			arg = arg[at+1:]
		}
		if shown := redact.URL(arg); shown != arg {
			text = strings.ReplaceAll(text, arg, shown)
		}
	}
	return text
}

// A statusError is the status of a process that did the command and has said what
// was to be said.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("ended with status %d", e.status) }

// errHelped ends a command that was asked what a flag takes, and said it.
var errHelped = errors.New("helped")

// oneLine joins the lines of an error that has several causes.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines, "; ")
}

// A usageError says that a command was called in a wrong way.
type usageError struct{ text string }

// usagef makes a usageError. The command's name and where to find help are
// added when it is printed.
func usagef(format string, a ...any) error { return &usageError{fmt.Sprintf(format, a...)} }

func (e *usageError) Error() string { return e.text }

// in is the text for a user who called the command, "" if none was named.
func (e *usageError) in(command string) string {
	text := oneLine(e.text)
	if command == "" {
		return text + "; see caravel --help"
	}
	return fmt.Sprintf("%s: %s; see caravel %s --help", command, text, command)
}
