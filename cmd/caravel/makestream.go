package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"caravel/catar"
	"caravel/layers"
	"caravel/ocilayout"
	"caravel/store/open"
	"caravel/tarball"
)

// The ways to say what a tree that is no directory is in.
const (
	diskInput = "disk"
	tarInput  = "tar"
)

// containers are what stands before a container's image on a disk, in skopeo's words.
// What is behind all of them tells itself what it is.
var containers = []string{"oci:", "oci-archive:", "docker-archive:"}

// containerRef is what comes behind such a word; "" if none is there.
func containerRef(in string) string {
	for _, word := range containers {
		if ref, ok := strings.CutPrefix(in, word); ok {
			return ref
		}
	}
	return ""
}

// fromStream makes an image of a tree that is no directory.
func (m *maker) fromStream(ctx context.Context) (result, error) {
	if ref := containerRef(m.in); ref != "" {
		return m.fromContainer(ctx, ref)
	}
	mode := fs.FileMode(0o666)
	if st, err := os.Stat(m.in); err == nil {
		mode = st.Mode()
	}
	file, size, err := m.openStream(ctx)
	if err != nil {
		return result{}, err
	}
	defer file.Close()
	m.stop = func() { file.Close() } // ends a read that waits for a pipe
	stop := context.AfterFunc(ctx, m.stop)
	defer stop()
	r, err := tarball.Unpack(file)
	if err != nil {
		return result{}, within(m.in, err)
	}
	defer r.Close()
	head, whole, err := tarball.Peek(r)
	switch {
	case err != nil:
		return result{}, within(m.in, err)
	case tarball.Begins(head):
		return m.fromTar(ctx, whole, mode)
	case m.input == tarInput:
		return result{}, fmt.Errorf("%s: is no tar stream", m.in)
	case m.kind == archiveKind:
		return result{}, fmt.Errorf("%s: is no tar stream; a .catar is made of one, or of a directory", m.in)
	}
	m.shown.Total(max(size, 0))
	return m.fromArchive(ctx, whole, mode)
}

// openStream opens the source: a file as such, so that it can be read anywhere.
func (m *maker) openStream(ctx context.Context) (io.ReadCloser, int64, error) {
	if f, ok := m.std.in.(*os.File); ok && m.in == "-" {
		return f, -1, nil
	}
	r, info, err := open.Reader(ctx, m.in, m.where)
	return r, info.Size, err
}

// fromArchive makes a .caidx of a .catar, which is checked while it is cut.
func (m *maker) fromArchive(ctx context.Context, r io.Reader, mode fs.FileMode) (result, error) {
	c, err := catar.Check(r)
	if err != nil {
		return result{}, fmt.Errorf("%w; a .caidx is made of a directory, a .catar or a tar stream, of a disk image a .caibx", within(m.in, err))
	}
	defer c.Close()
	made, err := m.chunks(ctx, c, c.Flags, mode, nil)
	if bad := c.Err(); bad != nil && (err == nil || errors.Is(err, bad)) {
		err = within(m.in, bad) // as it was, without those through whose hands it went
	}
	return made, err
}

// fromTar makes an image of the tree in a tar stream.
func (m *maker) fromTar(ctx context.Context, r io.Reader, mode fs.FileMode) (result, error) {
	t, err := layers.New(layers.Options{Log: m.logger})
	if err != nil {
		return result{}, err
	}
	defer t.Close()
	if err := t.Add(ctx, tarball.NewReader(r, tarball.ReaderOptions{})); err != nil {
		return result{}, within(m.in, err)
	}
	return m.fromLayers(ctx, t, mode)
}

// fromContainer makes an image of a container's image.
func (m *maker) fromContainer(ctx context.Context, ref string) (result, error) {
	path, tag := ocilayout.Split(ref)
	img, err := ocilayout.Open(ctx, path, tag, ocilayout.Options{Platform: m.platform, Log: m.logger})
	if err != nil {
		return result{}, err
	}
	defer img.Close()
	t, err := layers.New(layers.Options{Layered: true, Log: m.logger})
	if err != nil {
		return result{}, err
	}
	defer t.Close()
	if err := img.Unpack(ctx, t); err != nil {
		return result{}, err
	}
	return m.fromLayers(ctx, t, 0o666)
}

// fromLayers makes an image of a tree, if all of it can be kept.
func (m *maker) fromLayers(ctx context.Context, t *layers.Tree, mode fs.FileMode) (result, error) {
	if err := reportLost(m.logger, m.in, t.Lost, m.bestEffort); err != nil {
		return result{}, err
	}
	f := m.pack.archive()
	s, err := t.Stream(ctx, f)
	if err != nil {
		return result{}, err
	}
	defer s.Close()
	var made result
	if m.kind == archiveKind {
		made, err = m.archive(ctx, &archiveFile{Reader: s, sum: f.Digest().New(), progress: m.shown.Counter()}, mode)
	} else {
		made, err = m.chunks(ctx, s, f, mode, nil)
	}
	if err != nil {
		return result{}, within(m.in, err)
	}
	made.Entries = s.Entries()
	return made, nil
}
