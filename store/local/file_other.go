//go:build !unix

package local

import (
	"context"
	"os"

	"caravel/store"
)

// File opens an object as a file, for those who have the system send it. Its owner
// closes it.
func (d *Dir) File(ctx context.Context, name string) (*os.File, store.Info, error) {
	return d.file(ctx, name, func(path string) (*os.File, error) {
		f, _, err := openFile(path, d.opt.Follow)
		if err != nil {
			return nil, err
		}
		return f.(*os.File), nil
	})
}
