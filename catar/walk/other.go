//go:build !linux

package walk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"caravel/feature"
)

// A Reader is the archive of a directory as a stream.
type Reader struct{ count counters }

// Open packs a directory. It takes Linux.
func Open(_ context.Context, dir string, _ feature.Flags, _ Options) (*Reader, error) {
	return nil, fmt.Errorf("walk: %s: directories are packed on Linux only: %w", dir, errors.ErrUnsupported)
}

func (r *Reader) Read([]byte) (int, error) { return 0, io.EOF }

// WriteTo is io.WriterTo's.
func (r *Reader) WriteTo(io.Writer) (int64, error) { return 0, nil }

// Close ends the walk.
func (r *Reader) Close() error { return nil }

// Stats is what was packed so far.
func (r *Reader) Stats() Stats { return r.count.stats() }

// Payloads says nothing: there is no stream.
func (r *Reader) Payloads() []Payload { return nil }

// A Payload is where the bytes of a file lie in the stream.
type Payload struct {
	File
	Off    int64
	Unread bool
}

// Path is none.
func (p *Payload) Path() string { return "" }

// ReadAt takes Linux.
func (p *Payload) ReadAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }

// InodeOf knows no node: directories are packed on Linux only.
func InodeOf(fs.FileInfo) (Inode, bool) { return Inode{}, false }
