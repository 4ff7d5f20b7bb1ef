package main

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"

	"caravel/catar/tree"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/open"
)

// A skimmer takes from the archive that is cut what goes into its sidecar; a nil
// one nothing.
type skimmer struct{ *tree.Skimmer }

// skimmer is for what m makes.
func (m *maker) skimmer() *skimmer {
	if !m.hasSidecar() || m.noTree {
		return nil
	}
	return &skimmer{tree.NewSkimmer()}
}

// hasSidecar reports whether m makes the index of a tree, into a file: beside a
// pipe or a device there is no place, nor over ssh.
func (m *maker) hasSidecar() bool {
	if m.kind != archiveIndex || !open.HasSides(m.out) {
		return false
	}
	st, err := os.Stat(pathOf(m.out))
	return err != nil || st.Mode().IsRegular()
}

// decideTree leaves the sidecar out, unless it was asked for, where the chunks are
// encrypted: its names and attributes would be there for all to read.
func (m *maker) decideTree() error {
	if m.treeSaid || m.noTree || !m.hasSidecar() {
		return nil
	}
	key, err := open.Key(m.storePlace(), m.where)
	m.noTree = key != nil
	return err
}

// tee is r, of which the skimmer sees all.
func (s *skimmer) tee(r io.Reader) io.Reader {
	if s == nil {
		return r
	}
	return io.TeeReader(r, s)
}

// sidecar puts the sidecar beside where the index will be, whose digest is sum,
// and returns its own digest; "" if there is to be none. That of another index
// is not left there: everybody who reads the image would be warned of it.
func (m *maker) sidecar(ctx context.Context, s *skimmer, sum [32]byte, mode fs.FileMode) (digest string, err error) {
	if !m.hasSidecar() {
		return "", nil
	}
	where := open.Beside(m.out, treeSuffix)
	if s == nil {
		return "", m.removeStale(ctx, where, sum)
	}
	content, err := s.Sidecar(sum)
	if err != nil {
		m.logger.Warn("no sidecar is written: names and attributes will be read from the chunks", "err", err)
		return "", m.removeStale(ctx, where, sum)
	}
	return digestOf(content), m.put(ctx, where, content, mode)
}

// digestOf is the digest of a sidecar, as --tree-digest wants it.
func digestOf(sidecar []byte) string {
	sum := sha512.Sum512_256(sidecar)
	return hex.EncodeToString(sum[:])
}

// removeStale removes a sidecar of another index than the one with a digest, and
// nothing else. Where it cannot be read or removed behind a network, it stays.
func (m *maker) removeStale(ctx context.Context, where string, sum [32]byte) error {
	err := m.removeIfStale(ctx, where, sum)
	if err != nil && ctx.Err() == nil && open.Remote(where) {
		m.logger.Warn("a sidecar of another index may be left, of which readers will be warned", "sidecar", redact.URL(where), "err", err)
		return nil
	}
	return err
}

func (m *maker) removeIfStale(ctx context.Context, where string, sum [32]byte) error {
	f, _, err := open.Reader(ctx, where, m.where)
	if errors.Is(err, store.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := tree.ReadSidecar(f, sum, 0); errors.Is(err, tree.ErrStale) {
		return open.Delete(ctx, where, m.where)
	}
	return nil
}
