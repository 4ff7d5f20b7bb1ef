// Package ocilayout reads container images from a disk: a layout of the OCI's image
// specification, as skopeo, umoci and buildah write it, and what docker save writes;
// a directory, or a tar stream of one, packed or not.
//
//	img, err := ocilayout.Open(ctx, "alpine", "3.20", ocilayout.Options{})
//	defer img.Close()
//	err = img.Unpack(ctx, tree) // a layers.Tree
//
// The digest of every blob is compared before a byte of it is used: of the manifest,
// of the configuration, of the layers. A layer's plain bytes are compared with what
// the configuration says of them, too. Of the digest of the image itself only the
// layout's index speaks, unless the caller names it (PATH@sha256:…).
package ocilayout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"caravel/layers"
	"caravel/tarball"
)

// Options tunes an Image. The zero value takes what there is for this machine.
type Options struct {
	Platform string       // OS/ARCH or OS/ARCH/VARIANT; "": linux on this processor, or the only one there is
	Log      *slog.Logger // nil: discard
}

// An Image is one image of a layout, opened.
type Image struct {
	files  files
	layers []layer
}

// A layer is a tar stream.
type layer struct {
	name   string        // of its file
	digest digest.Digest // of that; "": not known
	size   int64         // of that; -1: not known
	plain  digest.Digest // of what is in it
}

// Split takes apart what a user names an image by: PATH, PATH:TAG or PATH@DIGEST.
// Where that is not clear the shortest path counts at which there is something.
func Split(ref string) (path, tag string) {
	if _, err := os.Stat(ref); err == nil {
		return ref, ""
	}
	for i, c := range ref {
		if c == ':' || c == '@' {
			if _, err := os.Stat(ref[:i]); err == nil {
				return ref[:i], ref[i+1:]
			}
		}
	}
	path, tag, _ = strings.Cut(ref, ":")
	return path, tag
}

// Open opens the image with a tag or digest ("": the only one) in the layout at a
// path.
func Open(ctx context.Context, path, tag string, opt Options) (_ *Image, err error) {
	f, err := openFiles(ctx, path, opt.Log)
	if err != nil {
		return nil, fmt.Errorf("ocilayout: %s: %w", path, err)
	}
	img := &Image{files: f}
	if err := img.find(ctx, tag, opt.Platform); err != nil {
		f.Close()
		return nil, fmt.Errorf("ocilayout: %s: %w", path, err)
	}
	return img, nil
}

// find finds the image's layers.
func (img *Image) find(ctx context.Context, tag, platform string) error {
	var mark v1.ImageLayout
	err := img.decode("oci-layout", &mark)
	switch {
	case err == nil && mark.Version != v1.ImageLayoutVersion:
		return fmt.Errorf("oci-layout: version %.100q, not %q", mark.Version, v1.ImageLayoutVersion)
	case err == nil:
		return img.findOCI(ctx, tag, platform)
	case !errors.Is(err, errMissing):
		return err
	}
	err = img.findDocker(ctx, tag, platform)
	if errors.Is(err, errMissing) {
		return errors.New("neither an OCI image layout nor what docker save writes")
	}
	return err
}

// Unpack adds the layers to a tree.
func (img *Image) Unpack(ctx context.Context, t *layers.Tree) error {
	for i, l := range img.layers {
		if err := img.unpack(ctx, l, t); err != nil {
			return fmt.Errorf("ocilayout: layer %d of %d, %s: %w", i+1, len(img.layers), l.name, err)
		}
	}
	return nil
}

func (img *Image) unpack(ctx context.Context, l layer, t *layers.Tree) error {
	blob, err := img.files.open(l.name)
	if err != nil {
		return err
	}
	if l.size >= 0 && blob.Size() != l.size {
		return fmt.Errorf("%d bytes, not %d", blob.Size(), l.size)
	}
	head, _, err := tarball.Peek(blob)
	if err != nil {
		return err
	}
	packed := tarball.Packed(head)
	want := []digest.Digest{l.digest}
	if !packed {
		want = append(want, l.plain) // of what is packed it is found out on the way
	}
	for _, d := range slices.Compact(want) {
		if d == "" {
			continue
		}
		if err := verify(ctx, blob, d); err != nil {
			return err
		}
	}
	if !packed {
		return t.Add(ctx, tarball.NewReader(blob, tarball.ReaderOptions{}))
	}
	plain, err := tarball.Unpack(blob)
	if err != nil {
		return err
	}
	defer plain.Close()
	sum := l.plain.Algorithm().Hash()
	if err := t.Add(ctx, tarball.NewReader(io.TeeReader(plain, sum), tarball.ReaderOptions{})); err != nil {
		return err
	}
	if got := digest.NewDigest(l.plain.Algorithm(), sum); got != l.plain {
		return fmt.Errorf("digest mismatch of what is in it (got %s, want %s)", got, l.plain)
	}
	return nil
}

// Close closes the layout. Trees that it was unpacked into have been read then.
func (img *Image) Close() error { return img.files.Close() }

// verify compares a blob with its digest.
func verify(ctx context.Context, blob *io.SectionReader, want digest.Digest) error {
	sum := want.Algorithm().Hash()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < blob.Size(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := blob.ReadAt(buf, off)
		sum.Write(buf[:n])
		off += int64(n)
		if err != nil && (err != io.EOF || n == 0) {
			return err
		}
	}
	if got := digest.NewDigest(want.Algorithm(), sum); got != want {
		return fmt.Errorf("digest mismatch (got %s, want %s)", got, want)
	}
	return nil
}

// maxJSON bounds what is decoded: registries take manifests of no more than 4 MiB.
const maxJSON = 4 << 20

// maxListed bounds how many images or layers there are in a list. An empty one takes
// three bytes there, and 200 when decoded.
const maxListed = 10000

// A list is one of JSON with at most maxListed elements.
type list[T any] []T

// UnmarshalJSON is json.Unmarshaler's.
func (l *list[T]) UnmarshalJSON(b []byte) error {
	*l = nil
	d := json.NewDecoder(bytes.NewReader(b))
	open, err := d.Token()
	if err != nil || open == nil {
		return err
	}
	if open != json.Delim('[') {
		return errors.New("not a list")
	}
	for d.More() {
		if len(*l) == maxListed {
			return fmt.Errorf("a list of more than %d", maxListed)
		}
		var v T
		if err := d.Decode(&v); err != nil {
			return err
		}
		*l = append(*l, v)
	}
	return nil
}

// An index is a v1.Index as far as it is needed, and a manifest a v1.Manifest, and so on.
type (
	index struct {
		Manifests list[v1.Descriptor] `json:"manifests"`
	}
	manifest struct {
		Config v1.Descriptor       `json:"config"`
		Layers list[v1.Descriptor] `json:"layers"`
	}
	config struct {
		v1.Platform
		RootFS struct {
			DiffIDs list[digest.Digest] `json:"diff_ids"`
		} `json:"rootfs"`
	}
)

// decode reads a file that is JSON.
func (img *Image) decode(name string, into any) error {
	blob, err := img.files.open(name)
	if err != nil {
		return err
	}
	if blob.Size() > maxJSON {
		return fmt.Errorf("%s: %d bytes, above %d", name, blob.Size(), maxJSON)
	}
	if err := json.NewDecoder(blob).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// decodeBlob reads a blob that is JSON, after it was compared with its digest.
func (img *Image) decodeBlob(ctx context.Context, d v1.Descriptor, into any) error {
	name, err := blobName(d.Digest)
	if err != nil {
		return err
	}
	blob, err := img.files.open(name)
	if err != nil {
		return err
	}
	if blob.Size() != d.Size || d.Size > maxJSON {
		return fmt.Errorf("%s: %d bytes, not %d and at most %d", name, blob.Size(), d.Size, maxJSON)
	}
	if err := verify(ctx, blob, d.Digest); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return img.decode(name, into)
}

// blobName is where a layout has the blob with a digest.
func blobName(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %.100q: %w", d, err)
	}
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded(), nil
}
