package open

import (
	"context"
	"fmt"
	"io"
	"math"

	"caravel/internal/redact"
	"caravel/store"
)

// Refresh is Read, unless the file is behind a network and still the version in
// have: then the error matches store.ErrUnchanged. A zero have is none. A file
// of this machine is always read: that costs little, and its time alone does
// not tell one version from the next.
func Refresh(ctx context.Context, location string, have store.Info, limit int64, opt Options) (content []byte, info store.Info, err error) {
	r, info, err := reader(ctx, location, have, opt)
	if err != nil {
		return nil, store.Info{}, err
	}
	defer r.Close()
	limit = min(limit, math.MaxInt64-1) // one more shows that there would be more
	if info.Size <= limit {
		content, err = readAll(io.LimitReader(r, limit+1), info.Size)
	}
	switch {
	case err != nil:
		return nil, store.Info{}, err
	case info.Size > limit, int64(len(content)) > limit:
		return nil, store.Info{}, fmt.Errorf("open: %s: more than %d bytes", redact.URL(location), limit)
	}
	return content, info, nil
}

// readAll reads r to its end, which should be after size bytes; -1 is unknown.
// Memory grows with what comes, in few steps, in which little is copied.
func readAll(r io.Reader, size int64) ([]byte, error) {
	const little = 4 << 10
	var b []byte
	for {
		if have := int64(len(b)); have == int64(cap(b)) {
			room := max(little, 2*have)
			if size >= have { // with a byte more the end shows
				room = min(max(little, 8*have), size+1)
			}
			b = append(make([]byte, 0, room), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
