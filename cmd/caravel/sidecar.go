package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"caravel/catalog"
	"caravel/catar/tree"
	"caravel/store"
)

// treeSide is the ending of sidecars, if they are to be used. One that says
// something of an index that the user has pinned must be pinned, too.
func (o sourceOptions) treeSide() []string {
	if o.noTree || o.pin != nil && o.treePin == nil {
		return nil
	}
	return []string{treeSuffix}
}

// sidecarState says in a word what became of the image's sidecar.
func (i *openedImage) sidecarState() string {
	if s := i.sidecar.Load(); s != nil {
		return *s
	}
	return "none"
}

// sidecar is the sidecar of a tree, or nil if there is none that is of use.
func (o *lazyOpener) sidecar(ctx context.Context, src *openedImage) *tree.Sidecar {
	content, err := src.Side(ctx, treeSuffix)
	if err != nil {
		if !errors.Is(err, store.ErrMissing) && ctx.Err() == nil {
			o.log.Info("sidecar cannot be had, going on without", "image", src.where, "err", err)
		}
		return nil
	}
	s, err := o.opt.readSidecar(content, src)
	if err != nil {
		o.dropSidecar(src, err)
		return nil
	}
	src.sidecar.Store(new("used"))
	o.heap.add(s.Len(), entryBytes)
	return s
}

func (o sourceOptions) readSidecar(content []byte, src *openedImage) (*tree.Sidecar, error) {
	if p := o.treePin; p != nil {
		if err := checkPin(p, content); err != nil {
			return nil, err
		}
	}
	return tree.ReadSidecar(bytes.NewReader(content), src.Index.Sum(), src.Index.Size())
}

// checkPin refuses a sidecar that is not the one named.
func checkPin(p *catalog.Pin, content []byte) error {
	h := p.Digest.New()
	h.Write(content)
	if got := [32]byte(h.Sum(nil)); got != p.ID {
		return fmt.Errorf("not the sidecar asked for: its %v is %x, not %v", p.Digest, got, p.ID)
	}
	return nil
}

// dropSidecar says that a sidecar is of no use, and sees to it that it is not
// taken again.
func (o *lazyOpener) dropSidecar(src *openedImage, why error) {
	src.sidecar.Store(new("dropped"))
	o.log.Warn("sidecar is not used", "image", src.where, "err", why)
	src.Drop(treeSuffix)
}

// keepsSidecar returns what keeps the sidecar that a walk has found out, for the
// next time; nil if there is to be none, or no place for it. What it says is not
// encrypted.
func (o *lazyOpener) keepsSidecar(src *openedImage) func([]byte) {
	if o.disk == nil || src.key != nil || !src.Remote && !src.remote || len(o.opt.treeSide()) == 0 {
		return nil
	}
	return func(sidecar []byte) {
		src.Supply(treeSuffix, sidecar)
		src.Confirm(treeSuffix) // it says what the archive has said
	}
}
