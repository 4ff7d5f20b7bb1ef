package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/minio/minio-go/v7"

	"caravel/store"
)

const (
	// partSize is how much of what can be read but once is held in memory, and so
	// the size of the parts that a large object is sent in.
	partSize = 32 << 20

	// mostAtOnce is the most that Amazon takes in one request.
	mostAtOnce = 5 << 30
)

// Put implements store.Putter: what can be read twice, or is up to 32 MiB, with
// one request, whose signature holds for the bytes.
func (b *Bucket) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := b.checkName(name); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	body, n, err := again(r)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Locate(name), err)
	}
	if body == nil || n > mostAtOnce {
		return b.putStream(ctx, name, r, size)
	}
	return b.putWhole(ctx, name, body, n, size)
}

// again is what is left of r as something that can be read more than once; nil if
// it is no such thing.
func again(r io.Reader) (body io.ReaderAt, size int64, err error) {
	seeker, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	})
	if !ok {
		return nil, 0, nil
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0, nil // a pipe
	}
	end, err := seeker.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, err
	}
	return io.NewSectionReader(seeker, start, end-start), end - start, nil
}

// putWhole sends n bytes with one request.
func (b *Bucket) putWhole(ctx context.Context, name string, body io.ReaderAt, n, size int64) error {
	if size >= 0 && n != size {
		return fmt.Errorf("%s: %w", b.Locate(name), &lengthError{n, size})
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(body, 0, n)); err != nil {
		return fmt.Errorf("%s: %w", b.Locate(name), err)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	opt := minio.PutObjectOptions{ContentType: contentType(name), DisableContentSha256: true} // else it is cut into pieces with signatures
	return b.ask(func(p *place) error {
		_, err := p.client.PutObject(ctx, b.bucket, b.key(name), io.NewSectionReader(body, 0, n), n, "", sum, opt)
		if err != nil {
			return b.failed(ctx, name, err)
		}
		return nil
	})
}

// putStream sends what can be read but once: in parts if that is much.
func (b *Bucket) putStream(ctx context.Context, name string, r io.Reader, size int64) error {
	rest := &counted{r: r, size: size}
	var head bytes.Buffer
	_, err := io.CopyN(&head, rest, partSize)
	switch {
	case err == io.EOF:
		return b.putWhole(ctx, name, bytes.NewReader(head.Bytes()), int64(head.Len()), size)
	case err != nil:
		return fmt.Errorf("%s: %w", b.Locate(name), err)
	}
	opt := minio.PutObjectOptions{
		ContentType:          contentType(name),
		PartSize:             partSize,
		DisableContentSha256: true,
		SendContentMd5:       true,
	}
	var last error
	return b.ask(func(p *place) error {
		if rest.n > partSize {
			return last // too late to begin again
		}
		_, err := p.client.Client.PutObject(ctx, b.bucket, b.key(name), io.MultiReader(bytes.NewReader(head.Bytes()), rest), -1, opt)
		if err != nil {
			last = b.failed(ctx, name, err)
			return last
		}
		return nil
	})
}

// counted reads what is put. Its errors are never the bare ones that minio-go
// takes for the end.
type counted struct {
	r    io.Reader
	size int64 // that there should be; -1: unknown
	n    int64 // read so far
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	switch {
	case c.size >= 0 && (c.n > c.size || err == io.EOF && c.n < c.size):
		return n, &lengthError{c.n, c.size}
	case err != nil && err != io.EOF:
		return n, fmt.Errorf("reading what to put: %w", err)
	}
	return n, err
}

// A lengthError says that there was more or less to put than promised.
type lengthError struct{ got, want int64 }

func (e *lengthError) Error() string {
	return fmt.Sprintf("%v: %d bytes instead of %d", io.ErrUnexpectedEOF, e.got, e.want)
}

func (e *lengthError) Unwrap() error { return io.ErrUnexpectedEOF }

// contentType is what desync says of an object, for those who look at the bucket.
func contentType(name string) string {
	if strings.HasSuffix(name, ".cacnk") {
		return "application/zstd"
	}
	return "application/octet-stream"
}

// Sync implements store.Putter: what a server has acknowledged, it keeps.
func (b *Bucket) Sync(ctx context.Context) error { return context.Cause(ctx) }

// checkName keeps out what would leave the prefix, or be no name elsewhere.
func (b *Bucket) checkName(name string) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("s3: %s: %w: %q is no name", b.shown(), store.ErrRefused, name)
	}
	return nil
}
