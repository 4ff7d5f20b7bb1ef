//go:build !unix

package diskcache

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// A place needs locks and folders by descriptor; where there are none, there is
// no disk cache.
type place struct {
	refs  int
	fresh bool
}

func openPlace(path string) (*place, error) {
	return nil, fmt.Errorf("diskcache: %s: %w on this system", path, errors.ErrUnsupported)
}

func nowhere(string) *place { return &place{} }

func (p *place) close()      {}
func (p *place) moved() bool { return false }

func (p *place) read(name, int64, func(int) []byte) (time.Time, error) {
	return time.Time{}, fs.ErrNotExist
}

func (p *place) stat(name) (size, blocks int64, err error)         { return 0, 0, fs.ErrNotExist }
func (p *place) write(name, []byte) (grown int64, err error)       { return 0, errors.ErrUnsupported }
func (p *place) folder(name, bool) (int, error)                    { return 0, errors.ErrUnsupported }
func (p *place) done(name, int)                                    {}
func (p *place) use(name)                                          {}
func (p *place) remove(name) (freed int64, err error)              { return 0, fs.ErrNotExist }
func (p *place) walk(func(found) bool) int64                       { return 0 }
func (p *place) lock() (unlock func(), ok bool)                    { return nil, false }
func (p *place) updateUsage(func(usage, bool) usage) (usage, bool) { return usage{}, false }

func unlink(int, string) error { return fs.ErrNotExist }
func onDisk(n int) int64       { return int64(n) }
func missing(err error) bool   { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotFile) }
func gone(error) bool          { return false }
func blocked(error) bool       { return false }

func failed(path string, err error) error { return fmt.Errorf("diskcache: %s: %w", path, err) }
