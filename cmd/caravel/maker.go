package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/internal/notify"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/open"
)

// A maker is one run of make.
type maker struct {
	makeOptions
	std      streams
	kind     kind
	out, in  string
	treeSaid bool         // whether there is to be a sidecar
	where    open.Options // for all that is read and written
	logger   *slog.Logger
	stop     func() // ends a read of the source that waits; nil: none does
	shown    *progress.Progress
}

func (m *maker) run(ctx context.Context) error {
	m.shown = progress.New(m.std.err, m.progress, "make "+redact.URL(m.out), 0)
	m.logger = m.log.logger(m.shown)
	var made result
	var err error
	if m.form, err = m.crypt.form(ctx, m.form, m.std.err, m.logger); err != nil {
		m.shown.Done(err)
		return err
	}
	if m.where, err = m.makeOptions.where(m.std.in, m.logger); err != nil {
		m.shown.Done(err)
		return err
	}
	if err := m.decideTree(); err != nil {
		m.shown.Done(err)
		return err
	}
	switch st, statErr := os.Stat(m.in); {
	case m.kind == blobIndex:
		made, err = m.fromBlob(ctx)
	case statErr != nil || !st.IsDir():
		made, err = m.fromStream(ctx)
	default:
		made, err = m.fromFolder(ctx, st.Mode())
	}
	m.shown.Done(err)
	if err != nil {
		return err
	}
	if err := m.stats(made); err != nil {
		return err
	}
	to := m.std.out
	if m.out == "-" {
		to = m.std.err
	}
	return made.print(to, m.json)
}

// stats prints what desync's --print-stats prints. It cuts some chunks in vain, which is
// the difference between its figures.
func (m *maker) stats(made result) error {
	if !m.printStats || made.chunked == nil {
		return nil
	}
	_, err := fmt.Fprintf(m.std.err, "{\n  \"ChunksAccepted\": %d,\n  \"ChunksProduced\": %[1]d\n}\n", made.Chunks)
	return err
}

// fromBlob makes a .caibx.
func (m *maker) fromBlob(ctx context.Context) (result, error) {
	src, err := openSource(ctx, m.std, m.in, image.SourceOptions{FileSystem: m.fsSize})
	if err != nil {
		return result{}, err
	}
	defer src.Close()
	m.stop = func() { src.Close() }
	m.shown.Total(max(src.Size, 0))
	if src.Cut != "" {
		m.logger.Info("the source ends at its file system", "source", m.in, "fs", src.Cut, "size", src.Size)
	}
	made, err := m.chunks(ctx, src, m.pack.blob(), src.Mode, nil)
	if err != nil {
		return result{}, err
	}
	if src.Size >= 0 && made.Size != src.Size {
		m.logger.Warn("the source changed its size while it was read", "source", m.in, "before", src.Size, "read", made.Size)
	}
	return made, nil
}

// chunks makes the index of r, whose flags are f, and puts it into its place.
// mode is that of the source; known what is remembered of it, or nil.
func (m *maker) chunks(ctx context.Context, r io.Reader, f feature.Flags, mode fs.FileMode, known *recall) (result, error) {
	putIndex, err := m.indexPlace(mode)
	if err != nil {
		return result{}, err
	}
	dst, err := m.makeStore()
	if err != nil {
		return result{}, err
	}
	base, err := m.base(ctx, dst, f)
	if err != nil {
		return result{}, err
	}
	_ = notify.Send(notify.Ready) // nobody need listen
	skim := m.skimmer()
	r = skim.tee(r)
	opt := image.MakeOptions{
		Params:        m.params,
		Digest:        f.Digest(),
		Flags:         f,
		Workers:       m.atOnce(),
		CheckExisting: m.checkExisting,
		NoDigest:      m.noDigest,
		Base:          base,
		Progress:      m.shown.Counter(),
		Interrupt:     m.stop,
	}
	known.options(ctx, &opt, r)
	made, err := image.Make(ctx, r, dst, opt)
	if err != nil {
		return result{}, err
	}
	made.Index.Flags = f // also if there are none, which Make takes for "not said"
	if m.log.verbose {
		m.logger.Info("made", "size", made.Index.Size(), "chunks", made.Index.Len(), "stored", made.Stored, "reused", made.Reused, "known", known.count(), "store", redact.URL(m.storePlace()))
	}
	var index bytes.Buffer
	if _, err := made.Index.WriteTo(&index); err != nil {
		return result{}, err
	}
	done := resultOf(made)
	if done.Sidecar, err = m.sidecar(ctx, skim, made.Index.Sum(), mode); err != nil {
		return result{}, err
	}
	if err := putIndex(ctx, index.Bytes()); err != nil {
		return result{}, err
	}
	known.keep(ctx, made.Index, m.logger)
	return done, nil
}

// makeStore opens the store that make fills; nil with --no-store.
func (m *maker) makeStore() (store.Writer, error) {
	if m.noStore {
		return nil, nil
	}
	w, err := writer(m.storePlace(), m.where, m.logger)
	if err == nil && m.noSync {
		w = unsynced{w}
	}
	return w, err
}

// atOnce is how many chunks are worked on at one time; 0: one a core.
func (m *maker) atOnce() int {
	// A new chunk takes two round trips, which are at 20 ms 40 KB each in 40 ms: with
	// fewer than 64 at a time, even a link of 500 Mbit/s would wait for us.
	const overNetwork = 64
	if m.workers == 0 && !m.noStore && open.Remote(m.storePlace()) {
		return overNetwork
	}
	return m.workers
}

// storePlace is the store that make fills.
func (m *maker) storePlace() string {
	if len(m.stores) > 0 {
		return m.stores[0]
	}
	return open.DefaultStore(m.out)
}

// unsynced leaves out the wait for the disk.
type unsynced struct{ store.Writer }

func (unsynced) Sync(context.Context) error { return nil }

// indexPlace returns what puts the index into its place, or why it has none:
// better before the work than after it. Like casync it gives the index the
// permissions to read and write that the source has.
func (m *maker) indexPlace(mode fs.FileMode) (put func(context.Context, []byte) error, err error) {
	if m.out == "-" {
		return func(_ context.Context, b []byte) error {
			_, err := m.std.out.Write(b)
			return err
		}, nil
	}
	put = func(ctx context.Context, b []byte) error { return m.put(ctx, m.out, b, mode) }
	return put, canPutAt(m.out)
}

// put puts a file at a location.
func (m *maker) put(ctx context.Context, location string, content []byte, mode fs.FileMode) error {
	return putAt(ctx, location, content, local.Options{Mode: outputMode(mode), Sync: !m.noSync}, m.where)
}

// outputMode are the permissions of what is made of a source, before the umask:
// the source's.
func outputMode(source fs.FileMode) fs.FileMode {
	if source&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeCharDevice) != 0 {
		return 0o666 // a pipe's say nothing about what comes out of it
	}
	if source &= 0o666; source != 0 {
		return source
	}
	return 0o666
}

// A result is what make prints.
type result struct {
	Digest chunker.ID `json:"digest,omitzero"` // not with --no-digest
	Size   int64      `json:"size"`

	*chunked        // of an index
	Entries  int64  `json:"entries,omitempty"`    // of a directory
	Sidecar  string `json:"treeDigest,omitempty"` // of the sidecar, as --tree-digest wants it
}

type chunked struct {
	Chunks int   `json:"chunks"`
	Stored int64 `json:"stored"`
	Reused int64 `json:"reused"`
}

func resultOf(made *image.Made) result {
	return result{
		Digest:  made.Digest,
		Size:    made.Index.Size(),
		chunked: &chunked{made.Index.Len(), made.Stored, made.Reused},
	}
}

// print prints what casync's make prints, the digest, or more as JSON.
func (r result) print(w io.Writer, asJSON bool) error {
	if !asJSON && r.Digest == (chunker.ID{}) {
		return nil
	}
	if !asJSON {
		_, err := fmt.Fprintln(w, r.Digest)
		return err
	}
	return json.NewEncoder(w).Encode(r)
}

// openSource opens the file, block device or pipe to make an image of. It is
// closed when ctx ends, so that a read that waits for a pipe ends too.
func openSource(ctx context.Context, std streams, in string, opt image.SourceOptions) (src *image.Source, err error) {
	if stdin, ok := std.in.(*os.File); ok && in == "-" {
		src, err = image.NewSource(stdin, opt)
	} else {
		src, err = image.OpenSource(in, opt)
	}
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { src.Close() })
	return src, nil
}
