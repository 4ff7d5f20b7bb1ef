package oci

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"math"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"caravel/store"
)

const (
	manifestType = ocispec.MediaTypeImageManifest
	maxManifest  = 64 << 10 // of ours has some 600 bytes

	// A registry gives so many tags in one answer, or, as the reference registry does
	// before its version 3, all of them: a chunk's takes some 80 bytes.
	tagsAtOnce = 1000
	maxTags    = 256 << 20
	maxBlob    = 1 << 30 // as desync has it

	chunkArtifact = "application/vnd.desync.chunk.v1"
	fileArtifact  = "application/vnd.caravel.file.v1"
)

// artifact is the type of the artifact that an object is.
func artifact(tag string) string {
	if isChunk(tag) {
		return chunkArtifact
	}
	return fileArtifact
}

// Open implements store.Blobs with two GETs. The tag of an object is its digest.
func (r *Repository) Open(ctx context.Context, name string, part store.Range) (io.ReadCloser, store.Info, error) {
	return r.Refresh(ctx, name, part, store.Info{})
}

// Refresh implements store.Refresher; if nothing has changed it takes one GET.
func (r *Repository) Refresh(ctx context.Context, name string, part store.Range, have store.Info) (io.ReadCloser, store.Info, error) {
	if part.Off < 0 || part.Len < 0 || part.Off > math.MaxInt64-part.Len {
		return nil, store.Info{}, r.fail(name, nil, "no range: %d bytes from %d", part.Len, part.Off)
	}
	layer, info, err := r.layer(ctx, name)
	switch {
	case err != nil:
		return nil, store.Info{}, err
	case part.Tag != "" && part.Tag != info.Tag:
		return nil, store.Info{}, r.fail(name, store.ErrChanged, "%w: it is %s, not %s", store.ErrChanged, info.Tag, part.Tag)
	case have.Tag == info.Tag:
		return nil, store.Info{}, r.fail(name, store.ErrUnchanged, "%w", store.ErrUnchanged)
	case part.Off > info.Size:
		return nil, store.Info{}, r.fail(name, store.ErrRefused, "%d is behind the end, which is at %d", part.Off, info.Size)
	case part.Off == info.Size:
		return io.NopCloser(strings.NewReader("")), info, nil
	}
	part.Tag = ""
	body, got, err := r.blobs.Open(ctx, string(layer.Digest), part)
	if err != nil {
		return nil, store.Info{}, r.fail(name, nil, "%w", err)
	}
	if got.Size >= 0 && got.Size != info.Size {
		body.Close()
		return nil, store.Info{}, r.fail(name, store.ErrRefused, "has %d bytes, by its manifest %d", got.Size, info.Size)
	}
	info.Whole = got.Whole
	return body, info, nil
}

// Stat implements store.Statter with one GET.
func (r *Repository) Stat(ctx context.Context, name string) (store.Info, error) {
	_, info, err := r.layer(ctx, name)
	return info, err
}

// layer reads the manifest of an object.
func (r *Repository) layer(ctx context.Context, name string) (ocispec.Descriptor, store.Info, error) {
	tag, err := tagOf(name)
	if err != nil {
		return ocispec.Descriptor{}, store.Info{}, r.fail(name, store.ErrRefused, "%w", err)
	}
	text, err := r.manifest(ctx, name, tag)
	if err != nil {
		return ocispec.Descriptor{}, store.Info{}, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return ocispec.Descriptor{}, store.Info{}, r.fail(name, store.ErrRefused, "malformed manifest: %w", err)
	}
	if m.ArtifactType != artifact(tag) {
		return ocispec.Descriptor{}, store.Info{}, r.fail(name, store.ErrMissing, "under the tag %s is something else, of the type %q", tag, m.ArtifactType)
	}
	if len(m.Layers) != 1 {
		return ocispec.Descriptor{}, store.Info{}, r.fail(name, store.ErrRefused, "an artifact of %d layers, not of one", len(m.Layers))
	}
	layer := m.Layers[0]
	if err := layer.Digest.Validate(); err != nil || layer.Size < 0 || layer.Size > maxBlob {
		return ocispec.Descriptor{}, store.Info{}, r.fail(name, store.ErrRefused, "its manifest names a blob of %d bytes, %q", layer.Size, layer.Digest)
	}
	return layer, store.Info{Size: layer.Size, Tag: string(layer.Digest)}, nil
}

func (r *Repository) manifest(ctx context.Context, name, tag string) ([]byte, error) {
	body, _, err := r.manifests.Open(ctx, tag, store.Range{})
	if err != nil {
		return nil, r.fail(name, nil, "%w", err)
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxManifest+1))
	if err != nil {
		return nil, r.fail(name, nil, "%w", err)
	}
	if len(text) > maxManifest {
		return nil, r.fail(name, store.ErrRefused, "a manifest of more than %d bytes", maxManifest)
	}
	return text, nil
}

// errStop ends a listing that nobody reads on.
var errStop = errors.New("stop")

// List implements store.Lister by the tags. Those that are no object's are left out.
func (r *Repository) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := r.tags.Tags(ctx, "", func(tags []string) error {
			for _, tag := range tags {
				if name, ok := nameOf(tag); ok && strings.HasPrefix(name, prefix) && !yield(name, nil) {
					return errStop
				}
			}
			return nil
		})
		if err = r.explain("", err); err != nil && !errors.Is(err, errStop) && !errors.Is(err, store.ErrMissing) {
			yield("", err)
		}
	}
}

// digestOf is what a registry calls some bytes.
func digestOf(content []byte) digest.Digest { return digest.FromBytes(content) }
