package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// A Prepared image is one whose index is a chunk, too, so that one ID is enough to have
// all of it. An index over maxRoot bytes is an image of its own, whose index is that
// chunk, and so on; see docs/formats.md.
type Prepared struct {
	Root   chunker.ID
	Index  *index.Index   // of the image
	Above  []*index.Index // that of Index, and then each of the one before; none as a rule
	Stored int64          // by Prepare: chunks that were new to the store
	Reused int64          // and those that it had, or that repeat
}

const (
	maxRoot      = 16 << 20 // bytes of an index that is one chunk; an image of 26 GB
	maxAbove     = 8        // indexes above that of the image
	maxRootImage = 4 << 30  // bytes of an index that is an image: one of some 6 TB
)

// nestedMagic begins a root that is the index of an index; the number of indexes above
// the image's follows, as 8 bytes, and then the topmost of them. Any other root is the
// image's index.
var nestedMagic = [8]byte{'c', 'a', 'r', 'a', 'v', 'e', 'l', 1}

// A nesting says how the index of a prepared image is kept.
type nesting struct {
	root   int            // bytes of an index that is one chunk
	above  int            // indexes above that of the image
	bytes  int64          // of an index that is an image
	params chunker.Params // how that is cut: by the image's own it might never get shorter
}

var usual = nesting{root: maxRoot, above: maxAbove, bytes: maxRootImage, params: chunker.DefaultParams()}

// Prepare makes an image of what r gives, and puts its index into dst as well.
func Prepare(ctx context.Context, r io.Reader, dst store.Writer, opt MakeOptions) (*Prepared, error) {
	return prepare(ctx, r, dst, opt, usual)
}

// prepare is Prepare with a nesting that is not the usual one.
func prepare(ctx context.Context, r io.Reader, dst store.Writer, opt MakeOptions, limit nesting) (*Prepared, error) {
	made, err := Make(ctx, r, dst, opt)
	if err != nil {
		return nil, err
	}
	p := &Prepared{Index: made.Index, Stored: made.Stored, Reused: made.Reused}
	content, err := indexBytes(made.Index)
	if err != nil {
		return nil, err
	}
	opt = MakeOptions{Params: limit.params, Digest: opt.Digest, Flags: opt.Flags, Workers: opt.Workers, CheckExisting: opt.CheckExisting, NoDigest: true}
	for len(content) > limit.root {
		if int64(len(content)) > limit.bytes || len(p.Above) == limit.above {
			return nil, fmt.Errorf("image: its index of %d bytes is more than a prepared image may have: take larger chunks", len(content))
		}
		if made, err = Make(ctx, bytes.NewReader(content), dst, opt); err != nil {
			return nil, err
		}
		p.Above = append(p.Above, made.Index)
		p.Stored, p.Reused = p.Stored+made.Stored, p.Reused+made.Reused
		if content, err = indexBytes(made.Index); err != nil {
			return nil, err
		}
	}
	if n := len(p.Above); n > 0 {
		content = append(binary.LittleEndian.AppendUint64(nestedMagic[:], uint64(n)), content...)
	}
	p.Root = opt.Digest.Sum(content)
	c := store.NewChunk(p.Root, opt.Digest, content, nil)
	defer c.Release()
	if err := dst.Put(ctx, c); err != nil {
		return nil, err
	}
	return p, dst.Sync(ctx)
}

func indexBytes(x *index.Index) ([]byte, error) {
	var b bytes.Buffer
	_, err := x.WriteTo(&b)
	return b.Bytes(), err
}

// ReadPrepared reads the index of a prepared image out of a store, verified, by whichever
// digest root is of it.
func ReadPrepared(ctx context.Context, s store.Store, root chunker.ID) (*Prepared, error) {
	content, err := rootBytes(ctx, s, root)
	if err != nil {
		return nil, err
	}
	p := &Prepared{Root: root}
	var above uint64
	if bytes.HasPrefix(content, nestedMagic[:]) && len(content) >= 16 {
		if above = binary.LittleEndian.Uint64(content[8:]); above == 0 || above > maxAbove {
			return nil, fmt.Errorf("image: chunk %s: is under %d indexes, want 1 to %d", root, above, maxAbove)
		}
		content = content[16:]
	}
	x, err := index.Read(bytes.NewReader(content), int64(len(content)))
	for ; above > 0 && err == nil; above-- {
		p.Above = append([]*index.Index{x}, p.Above...)
		x, err = indexIn(ctx, x, s)
	}
	if err != nil {
		return nil, fmt.Errorf("image: chunk %s: is not what prepare has made: %w", root, err)
	}
	p.Index = x
	return p, nil
}

// rootBytes gets a chunk that is named by one of the digests.
func rootBytes(ctx context.Context, s store.Store, root chunker.ID) (content []byte, err error) {
	var bad error // by the first of them
	for _, d := range []chunker.Digest{chunker.SHA512_256, chunker.SHA256} {
		if content, err = plainChunk(ctx, s, store.Want{ID: root, Digest: d}); err == nil {
			return content, nil
		}
		if bad == nil {
			bad = err
		}
		if !errors.Is(err, store.ErrCorrupt) {
			break
		}
	}
	return nil, bad
}

// plainChunk is a copy of a chunk's bytes, verified.
func plainChunk(ctx context.Context, s store.Store, want store.Want) ([]byte, error) {
	c, err := store.Verify(s).Get(ctx, want)
	if err != nil {
		return nil, err
	}
	defer c.Release()
	plain, err := c.Plain()
	return bytes.Clone(plain), err
}

// indexIn reads the index that an image holds.
func indexIn(ctx context.Context, x *index.Index, s store.Store) (*index.Index, error) {
	if x.Size() > maxRootImage {
		return nil, fmt.Errorf("an index of %d bytes, want %d at most", x.Size(), int64(maxRootImage))
	}
	r, err := NewReader(ctx, x, store.Verify(s), 0, x.Size(), StreamOptions{})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return index.Read(r, x.Size())
}

// AddPrepared adds the chunks of a prepared image, those that are its index among them.
func (r *Roots) AddPrepared(p *Prepared) {
	for _, x := range p.Above {
		r.Add(x)
	}
	r.Add(p.Index)
	r.ids = append(r.ids, p.Root)
}
