// Package farside is the far side of casync's protocol: it answers a casync, desync or
// caravel that reads chunks and files of this machine, and takes what they write. It
// does not know where these are; it converses over two streams, which are the standard
// input and output of a process that an ssh has started.
//
//	err := farside.Pull{Stores: []store.Store{s}}.Serve(ctx, os.Stdin, os.Stdout)
//
// The protocol is described in docs/formats.md, section 5. Where the peers differ, this
// does what helps both: every chunk of a request is answered, compressed, as desync
// knows no other, and one that is asked for twice before it was sent is sent once.
//
// What is pushed is verified before it is stored, unlike in casync. An index gets its
// name when all chunks that it names are there and on disk, and then only does the
// other side hear so.
package farside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"caravel/castp"
	"caravel/store"
)

// A wire is what both kinds of far sides speak on. Its methods may be called from many
// goroutines.
type wire struct {
	mu  sync.Mutex // guards w, err
	w   *castp.Writer
	err error
}

func newWire(w io.Writer) *wire { return &wire{w: castp.NewWriter(w)} }

// say writes a message and sends it.
func (w *wire) say(message func(w *castp.Writer) error) error {
	return w.sayIf(func() bool { return true }, message)
}

// sayIf writes a message, and sends it and those before it if then nothing follows
// soon, which last tells.
func (w *wire) sayIf(last func() bool, message func(w *castp.Writer) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = message(w.w)
	}
	if w.err == nil && last() {
		w.err = w.w.Flush()
	}
	if w.err != nil {
		return fmt.Errorf("%w: %w", errGone, w.err)
	}
	return nil
}

// errGone is another side that takes nothing any more.
var errGone = errors.New("farside: the other side has gone")

// abort tells the other side why it gets no more.
func (w *wire) abort(err error) {
	_ = w.say(func(w *castp.Writer) error { return w.Abort(errno(err), err.Error()) }) // it may be gone
}

// errno is Linux's number for what casync knows nothing better of.
func errno(err error) int {
	const enoent, eio, eacces, ebadmsg = 2, 5, 13, 74
	switch {
	case errors.Is(err, store.ErrMissing) || errors.Is(err, fs.ErrNotExist):
		return enoent
	case errors.Is(err, fs.ErrPermission):
		return eacces
	case errors.Is(err, store.ErrCorrupt):
		return ebadmsg
	}
	return eio
}

// Refuse tells the other side that there is nothing to talk about, and why.
func Refuse(out io.Writer, err error) { newWire(out).abort(err) }

// greet says HELLO and hears the other side's. A side that ends without a word has
// changed its mind: then the error is io.EOF.
func greet(w *wire, r *castp.Reader, ours castp.Flags) (theirs castp.Flags, err error) {
	if err := w.say(func(w *castp.Writer) error { return w.Hello(ours) }); err != nil {
		return 0, err
	}
	m, err := r.Next()
	switch {
	case err != nil:
		return 0, err
	case m.Type == castp.Abort:
		return 0, &castp.AbortError{Code: m.Code, Text: m.Text}
	}
	theirs = castp.Flags(m.Flags)
	return theirs, castp.Agree(ours, theirs)
}

// unexpected is the error for a message that has no place.
func unexpected(m castp.Message) error {
	if m.Type == castp.Abort {
		return &castp.AbortError{Code: m.Code, Text: m.Text}
	}
	return fmt.Errorf("farside: %v was not asked for", m.Type)
}

// interruptible runs a conversation until it is over or ctx ends; then what waits for
// the other side is left behind, for the process to end with.
func interruptible(ctx context.Context, converse func(ctx context.Context) error) error {
	over := make(chan error, 1)
	go func() { over <- converse(ctx) }()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
