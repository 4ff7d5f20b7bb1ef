package tree

import (
	"context"
	"fmt"
	"slices"

	"caravel/catar"
)

const (
	minTable  = header + catar.TailSize // GOODBYE of no children
	tableRow  = 24                      // of one child
	minChild  = header + 2              // FILENAME; desync writes names without nodes
	maxRows   = 1 << 22                 // children of a directory, more are refused
	tableStep = 4 << 20                 // a large table is read piece by piece
)

// parseTail completes the directory f with its table, out of b, its last
// bytes, or by reading them. If all of the table is in b, it is parsed.
func (t *Tree) parseTail(ctx context.Context, f found, b []byte) (found, error) {
	if len(b) < catar.TailSize {
		b = make([]byte, catar.TailSize)
		if err := t.read(ctx, b, f.end-catar.TailSize); err != nil {
			return f, err
		}
	}
	goodbye, head, err := catar.ParseTail(b[len(b)-catar.TailSize:], f.end)
	if err != nil {
		return f, err
	}
	size, content := f.end-goodbye, goodbye-f.bodyAt()
	rows := (size - minTable) / tableRow
	switch {
	case head != f.head:
		return f, fmt.Errorf("tree: offset %d: the table of %s says that its ENTRY is at %d, not %d", goodbye, f.what(), head, f.head)
	case size < minTable, content < 0, rows > content/minChild:
		return f, fmt.Errorf("tree: offset %d: a table of %d bytes for the %d bytes of %s", goodbye, size, max(content, 0), f.what())
	case rows > maxRows:
		return f, tooMany(goodbye, f.what())
	}
	f.goodbye = goodbye
	if have := int64(len(b)); size <= have {
		f.table, err = catar.ParseTable(b[have-size:], f.bodyAt(), goodbye)
	}
	return f, err
}

func tooMany(goodbye int64, what string) error {
	return fmt.Errorf("tree: offset %d: %s has more than %d children", goodbye, what, maxRows)
}

// table returns a directory's table, which is read if need be.
func (t *Tree) table(ctx context.Context, id ID, e *entry, d *dir) (*catar.Table, error) {
	if tb := d.table.Load(); tb != nil {
		return tb, nil
	}
	return t.tables.do(ctx, id, func(ctx context.Context) (*catar.Table, error) {
		if tb := d.table.Load(); tb != nil {
			return tb, nil // the flight before this one has just landed
		}
		goodbye := d.goodbye
		if goodbye == 0 {
			f, err := t.parseTail(ctx, found{entry: *e, name: t.Name(id)}, nil)
			if err != nil {
				return nil, err
			}
			goodbye = f.goodbye
		}
		tb, err := t.readTable(ctx, e.bodyAt(), goodbye, e.end)
		if err != nil {
			return nil, err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if d.all.Load() == nil {
			d.table.Store(tb)
		}
		return tb, nil
	})
}

// readTable reads the table between goodbye and end.
func (t *Tree) readTable(ctx context.Context, body, goodbye, end int64) (*catar.Table, error) {
	b, err := t.readRange(ctx, goodbye, end)
	if err != nil {
		return nil, err
	}
	return catar.ParseTable(b, body, goodbye)
}

// readRange reads the bytes between two offsets. If they are many, nobody else
// reads as many at that time, and the memory is taken only as they come.
func (t *Tree) readRange(ctx context.Context, off, end int64) ([]byte, error) {
	n := end - off
	if n <= bigRead {
		b := make([]byte, n)
		return b, t.read(ctx, b, off)
	}
	big, err := t.big.take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { <-big }()
	var b []byte
	for have := 0; int64(have) < n; have = len(b) {
		step := int(min(n-int64(have), tableStep))
		b = slices.Grow(b, step)[:have+step]
		if err := t.read(ctx, b[have:], off+int64(have)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// belongs refuses a child whose name does not have the hash under which the
// table lists it.
func belongs(tb *catar.Table, s catar.Span, name string) error {
	if tb.Has(name, s) {
		return nil
	}
	return fmt.Errorf("tree: offset %d: entry %q is listed under the hash of another name", s.Start, name)
}
