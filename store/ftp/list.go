package ftp

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/jlaffaye/ftp"

	"caravel/store"
)

// List gives the names of all objects, folders within folders, without what
// unfinished writers have left there. A folder is read before its names are given.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		folder, start := path.Split(prefix)
		folder = path.Clean(folder)
		if !fs.ValidPath(folder) || folder != "." && checkName(folder) != nil {
			yield("", &failure{d.String(), fmt.Errorf("prefix %q leads elsewhere", prefix), store.ErrRefused})
			return
		}
		folders := []string{folder}
		for len(folders) > 0 && ctx.Err() == nil {
			next := folders[len(folders)-1]
			names, below, err := d.read(ctx, next, start)
			if err != nil {
				yield("", err)
				return
			}
			folders = append(folders[:len(folders)-1], below...)
			start = ""
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
		}
		if ctx.Err() != nil {
			yield("", context.Cause(ctx))
		}
	}
}

// read gives the objects in a folder, and the folders, whose names begin with start.
func (d *Dir) read(ctx context.Context, folder, start string) (objects, folders []string, err error) {
	err = d.with(ctx, folder, func(c *ftp.ServerConn) error {
		entries, err := d.entries(c, folder)
		for _, e := range entries {
			name := path.Join(folder, e.Name)
			switch {
			case !strings.HasPrefix(e.Name, start) || strings.Contains(e.Name, "/") || checkName(name) != nil || store.Unfinished(e.Name):
			case e.Type == ftp.EntryTypeFolder:
				folders = append(folders, name)
			case e.Type == ftp.EntryTypeFile:
				objects = append(objects, name)
			default: // a link, of which it is not said whereto
				if _, err := c.FileSize(d.in(name)); err == nil {
					objects = append(objects, name)
				} else if !answered(err) {
					return err
				}
			}
		}
		return err
	})
	return objects, folders, err
}

// entries reads a folder from inside: a listing's argument may be taken as a
// pattern, and may be a file.
func (d *Dir) entries(c *ftp.ServerConn, folder string) ([]*ftp.Entry, error) {
	home, err := c.CurrentDir()
	if err != nil {
		return nil, err
	}
	if err := c.ChangeDir(d.dir(folder)); err != nil {
		if folder != "." && answered(err) {
			return nil, nil
		}
		return nil, gone(err)
	}
	entries, err := c.List("")
	if err != nil {
		return nil, err
	}
	return entries, c.ChangeDir(home)
}

// dir is the path of a folder on the server; "." is the Dir's own.
func (d *Dir) dir(folder string) string {
	if folder == "." {
		return d.folder
	}
	return d.in(folder)
}
