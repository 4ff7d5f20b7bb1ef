package ssh

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"caravel/castp"
	"caravel/store"
)

// Files are the indexes and archives in a folder of the far side. They have no tags,
// no length before their end, and no parts: who wants one gets all before it, too.
// There are no files beside an index.
type Files struct {
	folder place
	opt    Options
}

var (
	_ store.Blobs   = (*Files)(nil)
	_ store.Putter  = (*Files)(nil)
	_ store.Locator = (*Files)(nil)
)

// Object opens the folder in which a file lies, and returns the file's name there.
func Object(location string, opt Options) (*Files, string, error) {
	p, err := parse(location)
	if err != nil {
		return nil, "", err
	}
	folder, name := p.split()
	if name == "" || name == "." || name == ".." || strings.HasSuffix(folder.path, "://") {
		return nil, "", refused(p.String(), "names a folder, not a file")
	}
	return &Files{folder, opt.filled()}, name, nil
}

// String is the folder's location, without secrets.
func (f *Files) String() string { return strings.TrimSuffix(f.folder.String(), "/") }

// Locate is the location of a file.
func (f *Files) Locate(name string) string { return f.folder.file(name).String() }

// isArchive tells by its name how a file is sent.
func isArchive(name string) bool {
	name, _, _ = strings.Cut(name, "?")
	return strings.HasSuffix(name, ".catar")
}

// isBeside tells by its name a file that lies beside an index, of which casync's
// protocol knows nothing.
func isBeside(name string) bool {
	return strings.Contains(name, ".caidx.") || strings.Contains(name, ".caibx.")
}

// Open reads a file.
func (f *Files) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	switch {
	case ctx.Err() != nil:
		return nil, store.Info{}, context.Cause(ctx)
	case r.Off < 0 || r.Len < 0:
		return nil, store.Info{}, refused(f.Locate(name), "no range: %d bytes from %d", r.Len, r.Off)
	case isBeside(name):
		return nil, store.Info{}, &failure{fmt.Sprintf("ssh: %s: %v: nothing lies beside an index there", f.Locate(name), store.ErrMissing), []error{store.ErrMissing}}
	}
	b := newBody()
	p := f.folder.file(name)
	c := call{place: p, verb: "pull", args: []string{"-", p.path}, wants: castp.PullIndex}
	b.piece, b.end = castp.Index, castp.IndexEOF
	if isArchive(name) {
		c.args, c.wants = []string{p.path, "-"}, castp.PullArchive
		b.piece, b.end = castp.Archive, castp.ArchiveEOF
	}
	c.args = append(c.args, "-")
	b.handle, b.owed, b.file = b.take, func() bool { return !b.handing.Load() }, true
	if err := b.begin(ctx, c, f.opt); err != nil {
		return nil, store.Info{}, err
	}
	go b.finally()
	b.stop = context.AfterFunc(ctx, func() { b.fail(context.Cause(ctx)) })
	if err := b.skip(r.Off); err != nil {
		b.Close()
		return nil, store.Info{}, err
	}
	info := store.Info{Size: -1, Whole: r != store.Range{}}
	if r.Len > 0 {
		return &limited{io.LimitReader(b, r.Len), b}, info, nil
	}
	return b, info, nil
}

type limited struct {
	io.Reader
	io.Closer
}

// A body is a file on its way.
type body struct {
	session
	piece, end castp.Type
	first      chan struct{} // closed when a byte, or the end, is here
	handing    atomic.Bool   // it is this side that waits
	once       sync.Once
	r          *io.PipeReader
	w          *io.PipeWriter
	stop       func() bool
}

func newBody() *body {
	b := &body{first: make(chan struct{})}
	b.r, b.w = io.Pipe()
	return b
}

func (b *body) take(m castp.Message, r *castp.Reader) error {
	switch m.Type {
	case b.piece:
		b.once.Do(func() { close(b.first) })
		return b.hand(r)
	case b.end:
		return io.EOF
	}
	return fmt.Errorf("%v, where %v was asked for", m.Type, b.piece)
}

// hand passes bytes on as fast as they are read, and lets the far side wait meanwhile.
func (b *body) hand(r *castp.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		b.handing.Store(true)
		_, werr := b.w.Write(buf[:n])
		b.use()
		b.handing.Store(false)
		switch {
		case werr != nil:
			return werr
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// finally tells who reads how it ended.
func (b *body) finally() {
	<-b.done
	b.w.CloseWithError(b.err)
	b.once.Do(func() { close(b.first) })
}

// skip waits for the file, and throws its first n bytes away.
func (b *body) skip(n int64) error {
	<-b.first
	select {
	case <-b.done:
		if b.err != nil {
			return b.err
		}
	default:
	}
	got, err := io.CopyN(io.Discard, b.r, n)
	if err == io.EOF {
		return refused(b.where, "offset %d is behind the end, at %d", n, got)
	}
	return err
}

func (b *body) Read(p []byte) (int, error) { return b.r.Read(p) }

// Close ends the transfer, and waits for its process.
func (b *body) Close() error {
	b.stop()
	b.r.Close()
	b.fail(errClosed)
	<-b.done
	return nil
}

// Put sends a file, which the far side gives its name when it is complete.
func (f *Files) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isBeside(name):
		return refused(f.Locate(name), "nothing can lie beside an index there")
	}
	p := f.folder.file(name)
	// A casync does not come to an end if it is told of no store, so there is one, in
	// which nothing is looked for.
	c := call{place: p, verb: "push", args: []string{"-", p.path, f.folder.file("default.castr").path}, wants: castp.PushIndex}
	piece, end := castp.Index, castp.IndexEOF
	if isArchive(name) {
		c.args, c.wants = []string{p.path, "-", "-"}, castp.PushArchive
		piece, end = castp.Archive, castp.ArchiveEOF
	}
	u := &upload{}
	u.handle, u.owed, u.strict, u.file = u.take, u.sent.Load, true, true
	if err := u.begin(ctx, c, f.opt); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { u.fail(context.Cause(ctx)) })
	defer stop()
	u.send(func(w *castp.Writer) error { return u.write(w, piece, end, r, size) })
	<-u.done
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return u.err
}

// An upload is a file on its way to the far side.
type upload struct {
	session
	sent atomic.Bool // all is: the far side is to say that it has got it
}

// take waits for the GOODBYE, with which the far side ends.
func (u *upload) take(m castp.Message, _ *castp.Reader) error {
	if m.Type != castp.Goodbye {
		return fmt.Errorf("%v, where a file was sent", m.Type)
	}
	u.finish()
	return nil
}

// write sends all that r gives, which has to be size bytes unless that is -1.
func (u *upload) write(w *castp.Writer, piece, end castp.Type, r io.Reader, size int64) error {
	buf := make([]byte, castp.Piece)
	total := int64(0)
	for {
		n, err := r.Read(buf)
		total += int64(n)
		if err == io.EOF && size >= 0 && total != size {
			err = fmt.Errorf("%w: %d bytes instead of %d", io.ErrUnexpectedEOF, total, size)
		}
		if err != nil && err != io.EOF {
			u.fail(err)
			return err
		}
		if err := w.File(piece, buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			u.use()
			u.sent.Store(true)
			return w.Bare(end)
		}
	}
}

// Sync does nothing: Put returns when the far side has done what it does.
func (f *Files) Sync(context.Context) error { return nil }
