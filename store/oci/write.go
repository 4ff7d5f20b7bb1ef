package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"caravel/store"
	"caravel/store/http"
)

const (
	inMemory = 1 << 20 // up to which size an object that is put is not written to a file first

	layerType = "application/octet-stream"
)

// Put implements store.Putter. A registry wants to hear the digest first, so the object
// is read to its end before anything is sent; a large one into a file without a name.
func (r *Repository) Put(ctx context.Context, name string, from io.Reader, size int64) error {
	tag, err := tagOf(name)
	if err != nil {
		return r.fail(name, store.ErrRefused, "%w", err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	content, layer, err := take(from, size)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Locate(name), err)
	}
	defer content.Close()
	for tries := 1; ; tries++ {
		err := r.putOnce(ctx, tag, layer, content)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", r.Locate(name), context.Cause(ctx))
		case tries == putTries || !clashed(err):
			return r.explain(name, err)
		}
	}
}

// putTries is how often an object is sent: where two put the same at the same time, the
// reference registry fails both.
const putTries = 5

// clashed reports whether an error may be that of such a meeting.
func clashed(err error) bool {
	var answer *errcode.ErrorResponse
	return errors.As(err, &answer) && (answer.StatusCode >= 500 || answer.StatusCode == nethttp.StatusBadRequest)
}

func (r *Repository) putOnce(ctx context.Context, tag string, layer ocispec.Descriptor, content io.ReadSeeker) error {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	ctx, watched := r.watch(ctx)
	defer watched.end()
	err := r.push(ctx, tag, layer, watched.reader(content))
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// push sends the blob, and what makes an artifact of it.
func (r *Repository) push(ctx context.Context, tag string, layer ocispec.Descriptor, content io.Reader) error {
	m, err := json.Marshal(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    manifestType,
		ArtifactType: artifact(tag),
		Config:       ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: ocispec.DescriptorEmptyJSON.Digest, Size: ocispec.DescriptorEmptyJSON.Size},
		Layers:       []ocispec.Descriptor{layer},
		// It also makes the manifests of two names different, of which one is deleted by its digest.
		Annotations: map[string]string{ocispec.AnnotationTitle: tag},
	})
	if err != nil {
		return err
	}
	if err := r.pushBlob(ctx, layer, content); err != nil {
		return err
	}
	if err := r.pushEmpty(ctx); err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: manifestType, Digest: digestOf(m), Size: int64(len(m))}
	return r.remote.Manifests().PushReference(ctx, desc, bytes.NewReader(m), tag)
}

func (r *Repository) pushBlob(ctx context.Context, desc ocispec.Descriptor, content io.Reader) error {
	err := r.remote.Blobs().Push(ctx, desc, content)
	if errors.Is(err, errdef.ErrAlreadyExists) {
		return nil
	}
	return err
}

// pushEmpty sends the blob that all artifacts have in common, once.
func (r *Repository) pushEmpty(ctx context.Context) error {
	r.empty.Lock()
	defer r.empty.Unlock()
	if r.hasEmpty {
		return nil
	}
	has, err := r.remote.Blobs().Exists(ctx, ocispec.DescriptorEmptyJSON)
	if err == nil && !has {
		err = r.pushBlob(ctx, ocispec.DescriptorEmptyJSON, bytes.NewReader(ocispec.DescriptorEmptyJSON.Data))
	}
	r.hasEmpty = err == nil
	return err
}

// Sync does nothing: a registry has what it has acknowledged.
func (r *Repository) Sync(context.Context) error { return nil }

// Delete implements store.Deleter: the manifest goes, and the blob when the registry
// collects its garbage. Many registries are set up to refuse that.
func (r *Repository) Delete(ctx context.Context, name string) error {
	tag, err := tagOf(name)
	if err != nil {
		return r.fail(name, store.ErrRefused, "%w", err)
	}
	desc, err := r.remote.Resolve(ctx, tag)
	if err == nil {
		err = r.remote.Manifests().Delete(ctx, desc)
	}
	if err = r.explain(name, err); errors.Is(err, store.ErrMissing) {
		return nil
	}
	return err
}

// explain puts where it was, and what callers branch on, to an error of oras.
func (r *Repository) explain(name string, err error) error {
	if err == nil || errors.Is(err, errStop) {
		return err
	}
	var answer *errcode.ErrorResponse
	if errors.Is(err, errdef.ErrNotFound) {
		return r.fail(name, store.ErrMissing, "%w", err)
	}
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return r.fail(name, store.ErrRefused, "401 Unauthorized, and no user and password are known: docker login, or podman login, keeps them")
	}
	if http.Untrusted(err) {
		return r.fail(name, store.ErrRefused, "%w", err)
	}
	if !errors.As(err, &answer) {
		return r.fail(name, nil, "%w", err)
	}
	text := fmt.Errorf("%d %s", answer.StatusCode, nethttp.StatusText(answer.StatusCode))
	if len(answer.Errors) > 0 {
		text = fmt.Errorf("%w: %q", text, answer.Errors[0].Message)
	}
	switch code := answer.StatusCode; {
	case code == nethttp.StatusNotFound:
		return r.fail(name, store.ErrMissing, "%w", text)
	case code == nethttp.StatusTooManyRequests || code == nethttp.StatusServiceUnavailable:
		return &store.BusyError{Err: r.fail(name, nil, "%w", text)}
	case code >= 500 || code == nethttp.StatusRequestTimeout:
		return r.fail(name, nil, "%w", text)
	}
	return r.fail(name, store.ErrRefused, "%w", text)
}

// take reads an object to its end.
func take(from io.Reader, size int64) (io.ReadSeekCloser, ocispec.Descriptor, error) {
	sum := digest.Canonical.Digester()
	in := io.TeeReader(io.LimitReader(from, maxBlob+1), sum.Hash())
	head, err := io.ReadAll(io.LimitReader(in, inMemory))
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	n := int64(len(head))
	var content io.ReadSeekCloser = closing{bytes.NewReader(head)}
	if n == inMemory {
		if content, n, err = spool(head, in); err != nil {
			return nil, ocispec.Descriptor{}, err
		}
	}
	switch {
	case size >= 0 && n < size:
		err = io.ErrUnexpectedEOF
	case size >= 0 && n > size:
		err = fmt.Errorf("more than the %d bytes that were announced", size)
	case n > maxBlob:
		err = fmt.Errorf("more than %d bytes, which is too much for one blob: %w", maxBlob, store.ErrRefused)
	}
	if err != nil {
		content.Close()
		return nil, ocispec.Descriptor{}, err
	}
	return content, ocispec.Descriptor{MediaType: layerType, Digest: sum.Digest(), Size: n}, nil
}

// closing is what is in memory.
type closing struct{ *bytes.Reader }

func (closing) Close() error { return nil }

// spool writes what is large to a file.
func spool(head []byte, rest io.Reader) (*os.File, int64, error) {
	f, err := os.CreateTemp("", "caravel-spool-")
	if err != nil {
		return nil, 0, err
	}
	_ = os.Remove(f.Name()) // what cannot be removed now is at least found by its name
	n, err := io.Copy(f, io.MultiReader(bytes.NewReader(head), rest))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, n, nil
}

// A watch ends a request during which nothing happens.
type watch struct {
	timer *time.Timer
	stall time.Duration
	stop  context.CancelCauseFunc
}

func (r *Repository) watch(ctx context.Context) (context.Context, watch) {
	ctx, stop := context.WithCancelCause(ctx)
	timer := time.AfterFunc(r.stall, func() { stop(fmt.Errorf("stalled: nothing was taken in %v", r.stall)) })
	return ctx, watch{timer, r.stall, stop}
}

func (w watch) end() {
	w.timer.Stop()
	w.stop(nil)
}

// reader is from, each read of which is a sign of life.
func (w watch) reader(from io.ReadSeeker) io.Reader { return &alive{from, w} }

type alive struct {
	io.ReadSeeker
	watch watch
}

func (a *alive) Read(p []byte) (int, error) {
	a.watch.timer.Reset(a.watch.stall)
	return a.ReadSeeker.Read(p)
}
