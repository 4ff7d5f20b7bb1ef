package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"caravel/catar"
	"caravel/feature"
)

// A loader reads the children of one directory.
type loader struct {
	t     *Tree
	dir   ID
	depth int // the children's
	table *catar.Table
	slots *slots

	got   [][]pending // in blocks, which are made when they are needed
	nodes []*pending  // those that are nodes, once all are here
}

// A pending child has been read. With an empty name, it is to be left out.
type pending struct {
	found
	tail []byte // its last bytes, if it may be a directory and its head was read elsewhere
}

const pendingBlock = 1 << 12

func newLoader(t *Tree, id ID, e *entry, tb *catar.Table, slots *slots) *loader {
	blocks := (tb.Len() + pendingBlock - 1) / pendingBlock
	return &loader{t: t, dir: id, depth: int(e.depth) + 1, table: tb, slots: slots, got: make([][]pending, blocks)}
}

// load reads the children, and adds them to the tree when all are well.
func (l *loader) load(ctx context.Context, d *dir) (*children, error) {
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	if err := l.finish(ctx); err != nil {
		return nil, err
	}
	byName, err := l.order()
	if err != nil {
		return nil, err
	}
	return l.publish(d, byName)
}

func (l *loader) at(i int) *pending { return &l.got[i/pendingBlock][i%pendingBlock] }

// makeRoom makes the blocks for the children of a run. A table may claim any
// number of them: memory is taken as they turn out to be there.
func (l *loader) makeRoom(r run) {
	for b := r.first / pendingBlock; b <= r.last/pendingBlock; b++ {
		if l.got[b] == nil {
			l.got[b] = make([]pending, min(pendingBlock, l.table.Len()-b*pendingBlock))
		}
	}
}

// read reads all heads, and the tails of what may be directories.
func (l *loader) read(ctx context.Context) error {
	n, only := 0, run{}
	for r := range runs(l.table) {
		if n++; n > 1 {
			break
		}
		only = r
	}
	if n == 1 {
		slot, err := l.slots.take(ctx)
		if err != nil {
			return err
		}
		defer func() { <-slot }()
		l.makeRoom(only)
		return l.readRun(ctx, only)
	}
	l.t.hint(l.table, hintsPerRead*l.t.opt.InFlight)
	g, ctx := errgroup.WithContext(ctx)
	var stopped error
	for r := range runs(l.table) {
		var slot chan struct{}
		if slot, stopped = l.slots.take(ctx); stopped != nil {
			break
		}
		l.makeRoom(r)
		g.Go(func() error {
			defer func() { <-slot }()
			return l.readRun(ctx, r)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return stopped
}

// readRun reads what lies in a run.
func (l *loader) readRun(ctx context.Context, r run) error {
	p := buffers.Get().(*[maxRun]byte)
	defer buffers.Put(p)
	b := p[:r.end-r.off]
	if err := l.t.read(ctx, b, r.off); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return l.readSingly(ctx, r)
	}
	for i := r.first; i <= r.last; i++ {
		s := l.table.Span(i)
		if i == r.first && r.tailFirst {
			l.at(i).tail = keepTail(b[:s.End-r.off], s.End)
			continue
		}
		node := b[s.Start-r.off : min(s.End, r.end)-r.off]
		tail := node
		if i == r.last && r.headLast {
			tail = nil
		}
		f, err := l.t.parse(ctx, node, tail, s, l.dir, l.depth)
		if err := l.take(i, f, err); err != nil {
			return err
		}
	}
	return nil
}

// readSingly reads the heads in a run one by one: the last bytes of files lie
// among them, and files that cannot be read shall be listed as well.
func (l *loader) readSingly(ctx context.Context, r run) error {
	for i := r.first; i <= r.last; i++ {
		if i == r.first && r.tailFirst {
			continue // finish reads it if it is a directory's
		}
		f, err := l.t.fetchInTurn(ctx, l.table.Span(i), l.dir, l.depth)
		if err := l.take(i, f, err); err != nil {
			return err
		}
	}
	return nil
}

// take keeps what came of child i.
func (l *loader) take(i int, f found, err error) error {
	if errors.Is(err, catar.ErrNoNode) {
		return nil
	}
	if err == nil {
		err = belongs(l.table, l.table.Span(i), f.name)
	}
	if err != nil {
		return err
	}
	l.at(i).found = f
	return nil
}

// keepTail returns what is worth keeping of a node's last bytes before it is
// known what kind of node it is: as much of its table as there is, if there
// seems to be one.
func keepTail(b []byte, end int64) []byte {
	if !catar.MayBeTail(b) {
		return nil
	}
	goodbye, _, err := catar.ParseTail(b[len(b)-catar.TailSize:], end)
	if err != nil {
		return nil
	}
	n := min(max(end-goodbye, catar.TailSize), int64(len(b)))
	return slices.Clone(b[int64(len(b))-n:])
}

// finish collects what is a node, and completes the directories. Where one has
// its table is left open if there is none to see: who wants it will be told why.
func (l *loader) finish(ctx context.Context) error {
	l.nodes = make([]*pending, 0, l.table.Len())
	for i := range l.table.Len() {
		p := l.at(i)
		if p.name == "" {
			continue
		}
		if isDir(p.mode) && p.goodbye == 0 && p.tail != nil {
			f, err := l.t.parseTail(ctx, p.found, p.tail)
			if err != nil {
				return err
			}
			p.found = f
		}
		l.nodes = append(l.nodes, p)
	}
	return nil
}

// order makes sure that the names are sorted and none is there twice. In an
// archive of desync's they need not be sorted; then it returns their order.
func (l *loader) order() (byName []uint32, err error) {
	sorted := true
	for i := 1; i < len(l.nodes) && sorted; i++ {
		last, this := &l.nodes[i-1].found, &l.nodes[i].found
		switch c := cmp.Compare(last.name, this.name); {
		case c == 0:
			return nil, duplicate(this)
		case c > 0 && l.t.flags != feature.Desync:
			return nil, fmt.Errorf("tree: offset %d: name %q after %q: not sorted", this.start(), this.name, last.name)
		case c > 0:
			sorted = false
		}
	}
	if sorted {
		return nil, nil
	}
	byName = sortNames(len(l.nodes), func(i int) string { return l.nodes[i].name })
	for i := 1; i < len(byName); i++ {
		last, this := &l.nodes[byName[i-1]].found, &l.nodes[byName[i]].found
		if last.name == this.name {
			return nil, duplicate(this)
		}
	}
	return byName, nil
}

// sortNames is the order of n names.
func sortNames(n int, name func(i int) string) []uint32 {
	byName := make([]uint32, n)
	for i := range byName {
		byName[i] = uint32(i)
	}
	slices.SortFunc(byName, func(a, b uint32) int { return cmp.Compare(name(int(a)), name(int(b))) })
	return byName
}

func duplicate(f *found) error {
	return fmt.Errorf("tree: offset %d: name %q is there twice", f.start(), f.name)
}

// publish adds the children to the tree, those that were seen before excepted.
func (l *loader) publish(d *dir, byName []uint32) (all *children, err error) {
	t := l.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if all := d.all.Load(); all != nil {
		return all, nil // of a flight that was given up, and landed all the same
	}
	all = &children{n: len(l.nodes), byName: byName}
	if len(d.single) > 0 {
		all.ids = make([]ID, 0, all.n)
	}
	for i, p := range l.nodes {
		var id ID
		if at, ok := t.one(d, p.head); ok {
			id = d.single[at]
		} else if id, err = t.add(p.found); err != nil {
			return nil, err
		}
		if i == 0 {
			all.first = id
		}
		if all.ids != nil {
			all.ids = append(all.ids, id)
		}
	}
	d.all.Store(all)
	d.table.Store(nil)
	d.single = nil
	return all, nil
}
