package open

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"caravel/store"
)

const (
	// blockSize is the unit in which a remote file is read and kept: at 20 ms
	// a round trip and 1 Gbit/s, half a millisecond of the link.
	blockSize = 64 << 10

	// hints is how many blocks that nobody waits for may be under way; where
	// memory is short, a quarter of what it holds, or they might drive out each other
	// before they are read.
	hints = 64
)

// A remote is a file behind a network, read in blocks.
type remote struct {
	version
	hints int64 // see the constant

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	kept    *simplelru.LRU[int64, []byte] // by block number; guarded by mu
	flights map[int64]*flight             // guarded by mu
	hinted  int64                         // flights that began as hints; guarded by mu
	closed  bool                          // guarded by mu
}

// A flight is a block under way.
type flight struct {
	waiters int  // who wants it, a hint counted as one; guarded by remote.mu
	hinted  bool // whether it began as a hint; guarded by remote.mu
	cancel  context.CancelFunc
	done    chan struct{} // closed when data and err are set
	data    []byte
	err     error
}

// atRemote opens a file with the request for its first block.
func atRemote(ctx context.Context, b store.Blobs, name string, opt Options) (*File, error) {
	v, first, err := begin(ctx, b, name, blockSize, store.Info{}, opt)
	if err != nil {
		return nil, err
	}
	if first == nil {
		return v.spool(ctx)
	}
	r := &remote{version: v, flights: map[int64]*flight{}}
	blocks := max(cmp.Or(opt.Memory, 64<<20)/blockSize, 16)
	r.hints = min(hints, int64(blocks)/4)
	if r.kept, err = simplelru.NewLRU[int64, []byte](int(blocks), nil); err != nil {
		return nil, err
	}
	r.kept.Add(0, first)
	r.life, r.end = context.WithCancel(context.Background())
	return &File{readerAt: r, where: v.where(), info: v.info}, nil
}

func (r *remote) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("open: %s: %w: offset %d", r.name, fs.ErrInvalid, off)
	}
	end := off + min(int64(len(p)), max(r.info.Size-off, 0))
	if end <= off {
		return 0, eof(len(p))
	}
	first, last := off/blockSize, (end-1)/blockSize
	for i, ahead := first, first+1; i <= last; i++ {
		for ; ahead <= min(last, i+r.hints-1); ahead++ {
			r.Want(ahead*blockSize, 1)
		}
		data, err := r.block(ctx, i)
		if err != nil {
			return n, err
		}
		skip := max(off-i*blockSize, 0)
		n += copy(p[n:], data[skip:])
	}
	return n, eof(len(p) - n)
}

// eof is io.EOF if something is missing.
func eof(missing int) error {
	if missing > 0 {
		return io.EOF
	}
	return nil
}

// block returns a block, which must not be changed, and waits for it.
func (r *remote) block(ctx context.Context, i int64) ([]byte, error) {
	r.mu.Lock()
	if data, ok := r.kept.Get(i); ok {
		r.mu.Unlock()
		return data, nil
	}
	if r.closed {
		r.mu.Unlock()
		return nil, fmt.Errorf("open: %s: %w", r.name, fs.ErrClosed)
	}
	f := r.fly(i)
	f.waiters++
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.data, f.err
	case <-ctx.Done():
		r.leave(i, f)
		return nil, context.Cause(ctx)
	}
}

// fly is the flight of a block, begun if there is none. The caller holds mu and
// counts itself among the waiters.
func (r *remote) fly(i int64) *flight {
	if f := r.flights[i]; f != nil {
		return f
	}
	ctx, cancel := context.WithCancel(r.life)
	f := &flight{cancel: cancel, done: make(chan struct{})}
	r.flights[i] = f
	r.work.Go(func() {
		f.data, f.err = r.fetch(ctx, i)
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.flights[i] == f {
			delete(r.flights, i)
		}
		if f.err == nil {
			r.kept.Add(i, f.data)
		}
		if f.hinted {
			r.hinted--
		}
		close(f.done)
	})
	return f
}

// leave ends a flight that nobody waits for any more.
func (r *remote) leave(i int64, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && r.flights[i] == f {
		delete(r.flights, i) // who comes now needs another one
		f.cancel()
	}
}

func (r *remote) fetch(ctx context.Context, i int64) ([]byte, error) {
	data := make([]byte, min(blockSize, r.info.Size-i*blockSize))
	return data, r.receive(ctx, data, i*blockSize)
}

func (r *remote) Want(off, n int64) {
	if off < 0 || n <= 0 || off >= r.info.Size {
		return
	}
	last := (min(n, r.info.Size-off) + off - 1) / blockSize
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := off / blockSize; i <= last && r.hinted < r.hints && !r.closed; i++ {
		if r.kept.Contains(i) || r.flights[i] != nil {
			continue
		}
		f := r.fly(i)
		f.waiters, f.hinted = 1, true
		r.hinted++
	}
}

func (r *remote) Has(off int64) (bool, int64) {
	i := off / blockSize
	end := min((i+1)*blockSize, r.info.Size)
	r.mu.Lock()
	defer r.mu.Unlock()
	return off >= 0 && off < r.info.Size && r.kept.Contains(i), end
}

func (r *remote) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.work.Wait()
	return nil
}
