package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/index"
	"caravel/prefetch"
	"caravel/store/local"
)

// corOptions are desync's words for --materialize, --record and --profile.
type corOptions struct {
	file string // as --materialize
	save string // where to write which chunks were read; "": nowhere
	init string // and which to fetch at first; "": none
	jobs int    // not used
}

// corFlags are those of desync's mount-index.
func corFlags(opt *corOptions) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cor-file", Usage: "as --materialize=`FILE`: unlike desync's it is filled in the background, too (not with --no-sweep), is bound to INDEX, and keeps what is there in FILE.map", Destination: &opt.file},
		&cli.StringFlag{Name: "cor-state-save", Usage: "write at the end, and on SIGHUP, which chunks were read to `FILE`; what is in --cor-file is known without that", Destination: &opt.save},
		&cli.StringFlag{Name: "cor-state-init", Usage: "fetch at first the chunks that --cor-state-save has written to `FILE`, if it is there; --record and --profile do that for other versions of the image, too", Destination: &opt.init},
		&cli.GenericFlag{Name: "cor-init-n", Usage: "", Value: workersValue(&opt.jobs), Hidden: true}, // the queue of a store finds out by itself
	}
}

// apply says the same in our words.
func (o corOptions) apply(lazy *lazyOptions) error {
	if o.file != "" && lazy.materialize != "" {
		return usagef("--cor-file and --materialize are one: leave one of them out")
	}
	if o.file != "" {
		lazy.materialize = herePath(o.file) // "yes" is a name here
	}
	lazy.corSave, lazy.corInit = o.save, o.init
	return nil
}

// corLimit is how large a state can be: a bit for each chunk of 2^31.
const corLimit = 1 << 28

// readCorState reads which chunks to fetch at first, a bit each, the lowest one of the
// first byte being that of the first chunk. Without a file there are none.
func readCorState(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bits, err := io.ReadAll(io.LimitReader(f, corLimit+1))
	if err == nil && len(bits) > corLimit {
		err = fmt.Errorf("%s: is too large for a state", path)
	}
	return bits, err
}

// corRows are the rows of an index whose bits are set.
func corRows(bits []byte, x *index.Index) ([]int, error) {
	if want := (x.Len() + 7) / 8; len(bits) != want {
		return nil, fmt.Errorf("is not of this image: %d bytes, not %d", len(bits), want)
	}
	var rows []int
	for row := range x.Len() {
		if bits[row/8]&(1<<(row%8)) != 0 {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// corState has the bits of the chunks set that were touched, wherever they are.
func corState(p *prefetch.Profile, x *index.Index) []byte {
	touched := map[chunker.ID]bool{}
	for c := range p.Chunks() {
		touched[c.ID] = true
	}
	bits := make([]byte, (x.Len()+7)/8)
	for row := range x.Len() {
		if touched[x.Chunk(row).ID] {
			bits[row/8] |= 1 << (row % 8)
		}
	}
	return bits
}

// writeCorState writes what was touched of the image.
func (o *lazyOpener) writeCorState() error {
	img, x, err := o.recorded()
	if err != nil || img == nil || o.lazy.corSave == "" {
		return err
	}
	ctx := context.Background() // the command is about to end
	return putAt(ctx, o.lazy.corSave, corState(img.recorder.Profile(x), x), local.Options{Sync: true}, o.where)
}
