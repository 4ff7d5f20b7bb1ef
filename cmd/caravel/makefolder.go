package main

import (
	"context"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"caravel/catar/walk"
	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/internal/notify"
	"caravel/store/local"
	"caravel/store/open"
)

// fromFolder packs a directory.
func (m *maker) fromFolder(ctx context.Context, mode fs.FileMode) (result, error) {
	f := m.pack.archive()
	if f&feature.UserNames != 0 && f&feature.UIDs == 0 {
		m.logger.Warn("casync cannot read archives that have the owners' names without their numbers; --with=32bit-uids adds these")
	}
	p := &packing{ctx: ctx, dir: m.in, flags: f, opt: walk.Options{Log: m.logger, LeaveOut: m.own()}}
	defer p.Close()
	var made result
	var err error
	if dir := m.cachePlace(m.in); m.kind == archiveKind {
		made, err = m.archive(ctx, &archiveFile{Reader: p, sum: f.Digest().New(), progress: m.shown.Counter(), into: p.leaveOut}, mode)
	} else if dir != "" {
		made, err = m.fromFolderAgain(ctx, p, dir, mode)
	} else {
		made, err = m.chunks(ctx, p, f, mode, nil)
	}
	if p.err != nil && err != nil {
		err = p.err // as it was, without those through whose hands it went
	}
	if err != nil {
		return result{}, err
	}
	st := p.stats()
	made.Entries = st.Entries
	if st.LeftOut > 0 {
		m.logger.Info("left out what make itself writes", "dir", m.in, "entries", st.LeftOut)
	}
	if m.log.verbose {
		m.logger.Info("packed", "entries", st.Entries, "excluded", st.Excluded, "flags", f.String())
	}
	return made, nil
}

// own finds what is this command's own and might lie in the directory: the files
// that it is going to replace, and the store, which is made so that it can be
// recognized.
func (m *maker) own() []walk.Inode {
	paths := []string{pathOf(m.out)}
	if m.hasSidecar() {
		paths = append(paths, pathOf(open.Beside(m.out, treeSuffix)))
	}
	if m.kind == archiveIndex && !m.noStore {
		dir := pathOf(strings.TrimRight(m.storePlace(), "/"))
		_ = os.Mkdir(dir, 0o777) // it may be there; if it cannot be, that shows later
		paths = append(paths, dir)
	}
	var own []walk.Inode
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			own = appendInode(own, st)
		}
	}
	return own
}

// appendInode appends which node something is, if that is known.
func appendInode(to []walk.Inode, st fs.FileInfo) []walk.Inode {
	if node, ok := walk.InodeOf(st); ok {
		return append(to, node)
	}
	return to
}

// pathOf is where a location is on this machine; "": nowhere.
func pathOf(location string) string {
	blobs, name, err := open.Object(location, open.Options{})
	if dir, ok := blobs.(*local.Dir); ok && err == nil {
		return dir.Locate(name)
	}
	return ""
}

// archive puts a .catar into its place.
func (m *maker) archive(ctx context.Context, file *archiveFile, mode fs.FileMode) (result, error) {
	if m.noDigest {
		file.sum = nil
	}
	_ = notify.Send(notify.Ready) // nobody need listen
	var err error
	if m.out == "-" {
		_, err = file.WriteTo(m.std.out)
	} else if path := pathOf(m.out); path != "" {
		err = putFile(ctx, path, file, local.Options{Mode: outputMode(mode), Sync: !m.noSync})
	} else {
		err = m.send(ctx, file)
	}
	made := result{Size: file.size}
	if file.sum != nil {
		made.Digest = chunker.ID(file.sum.Sum(nil))
	}
	return made, err
}

// send puts a .catar to a place behind a network, once: what is read of a directory
// cannot be read again.
func (m *maker) send(ctx context.Context, file *archiveFile) error {
	r, w := io.Pipe()
	packed := make(chan struct{})
	go func() {
		defer close(packed)
		_, err := file.WriteTo(w)
		w.CloseWithError(err)
	}()
	err := open.PutOnce(ctx, m.out, r, m.where)
	r.Close() // ends what nobody reads
	<-packed
	return err
}

// A packing is a directory that is packed when somebody begins to read.
type packing struct {
	ctx   context.Context // of the run
	dir   string
	flags feature.Flags
	opt   walk.Options
	walk  *walk.Reader // nil before that
	err   error        // of the first read that had one
}

func (p *packing) Read(b []byte) (int, error) {
	if p.walk == nil {
		if p.walk, p.err = walk.Open(p.ctx, p.dir, p.flags, p.opt); p.err != nil {
			return 0, p.err
		}
	}
	n, err := p.walk.Read(b)
	if err != io.EOF {
		p.err = err
	}
	return n, err
}

// payloads are where the files lie in what was read.
func (p *packing) payloads() []walk.Payload {
	if p.walk == nil { // it could not be opened
		return nil
	}
	return p.walk.Payloads()
}

// restart ends the walk; the next read begins a new one.
func (p *packing) restart() {
	p.Close()
	p.walk, p.err = nil, nil
}

func (p *packing) stats() walk.Stats {
	if p.walk == nil {
		return walk.Stats{}
	}
	return p.walk.Stats()
}

func (p *packing) Close() error {
	if p.walk == nil {
		return nil
	}
	return p.walk.Close()
}

// leaveOut leaves a file out, which may lie in the directory.
func (p *packing) leaveOut(st fs.FileInfo) {
	p.opt.LeaveOut = appendInode(p.opt.LeaveOut, st)
}

// An archiveFile is an archive on its way into a file.
type archiveFile struct {
	io.Reader
	sum      hash.Hash // nil: nobody wants it
	size     int64
	progress *atomic.Int64
	into     func(fs.FileInfo) // told which file that is; nil: need not know
}

func (f *archiveFile) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	f.progress.Add(int64(n))
	return n, err
}

// WriteTo learns which file that is.
func (f *archiveFile) WriteTo(w io.Writer) (int64, error) {
	if to, ok := w.(*os.File); ok && f.into != nil {
		if st, err := to.Stat(); err == nil && st.Mode().IsRegular() {
			f.into(st)
		}
	}
	var err error
	f.size, err = image.CopySum(w, f, f.sum)
	return f.size, err
}
