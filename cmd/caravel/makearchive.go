package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"caravel/catar"
	"caravel/store/open"
)

// fromArchive makes a .caidx of a .catar, which is checked while it is cut.
func (m *maker) fromArchive(ctx context.Context) (result, error) {
	mode := fs.FileMode(0o666)
	if st, err := os.Stat(m.in); err == nil {
		mode = st.Mode()
	}
	r, info, err := open.Reader(ctx, m.in, m.where)
	if err != nil {
		return result{}, err
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { r.Close() }) // ends a read that waits for a pipe
	defer stop()
	m.shown.Total(max(info.Size, 0))
	c, err := catar.Check(r)
	if err != nil {
		return result{}, fmt.Errorf("%w; a .caidx is made of a directory or a .catar, of a disk image a .caibx", within(m.in, err))
	}
	defer c.Close()
	made, err := m.chunks(ctx, c, c.Flags, mode, nil)
	if bad := c.Err(); bad != nil {
		err = within(m.in, bad) // as it was, without those through whose hands it went
	}
	return made, err
}
