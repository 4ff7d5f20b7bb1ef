package ocilayout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"caravel/layers"
	"caravel/tarball"
)

// errMissing says that a layout has no file of a name.
var errMissing = errors.New("is not there")

// files are those of a layout. What was opened can be read until they are closed.
type files interface {
	open(name string) (*io.SectionReader, error)
	Close() error
}

func openFiles(ctx context.Context, path string, log *slog.Logger) (files, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, bare(err)
	}
	if st.IsDir() {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, bare(err)
		}
		return &folder{root: root}, nil
	}
	return openStream(ctx, path, log)
}

// bare is an error without the path, which is said once.
func bare(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// A folder is a layout in a directory, out of which no name leads.
type folder struct {
	root   *os.Root
	opened []*os.File
}

func (f *folder) open(name string) (*io.SectionReader, error) {
	st, err := f.root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = errMissing
	case err == nil && !st.Mode().IsRegular(): // to open a pipe is to wait for its other end
		err = errors.New("is no file")
	}
	var file *os.File
	if err == nil {
		file, err = f.root.Open(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, bare(err))
	}
	f.opened = append(f.opened, file)
	return io.NewSectionReader(file, 0, st.Size()), nil
}

func (f *folder) Close() error {
	var errs []error
	for _, file := range f.opened {
		errs = append(errs, file.Close())
	}
	return errors.Join(append(errs, f.root.Close())...)
}

// maxLayout bounds what the names of a layout in a stream take of memory: there are some
// files for each layer.
const maxLayout = 256 << 20

// A stream is a layout in a tar stream.
type stream struct {
	file *os.File
	tree *layers.Tree
}

func openStream(ctx context.Context, path string, log *slog.Logger) (_ files, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	s := &stream{file: f}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.tree, err = layers.New(layers.Options{Log: log, Memory: maxLayout}); err != nil {
		return nil, err
	}
	plain, err := tarball.Unpack(f)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	if err := s.tree.Add(ctx, tarball.NewReader(plain, tarball.ReaderOptions{})); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *stream) open(name string) (*io.SectionReader, error) {
	r, err := s.tree.Open(name)
	if err == nil && r == nil {
		err = errMissing
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func (s *stream) Close() error {
	err := s.file.Close()
	if s.tree != nil {
		err = errors.Join(err, s.tree.Close())
	}
	return err
}
