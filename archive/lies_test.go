package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
	"caravel/index"
)

// special is an archive with a device, a program that has attributes and another
// behind it in a directory, and a link, after change has had its way with each.
func special(t *testing.T, change func(name string, e *catar.Entry) string) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, (sampleFlags | feature.UID32 | feature.UserNames | feature.DeviceNodes | feature.NanoTime).Normal())
	begin := func(name string, n catar.Entry) {
		if change != nil {
			name = change(name, &n)
		}
		if err == nil {
			err = e.Begin(name, &n)
		}
		if err == nil {
			_, err = e.Write(make([]byte, n.Size))
		}
	}
	begin("", catar.Entry{Mode: catar.ModeDir | 0o755})
	begin("block", catar.Entry{Mode: catar.ModeBlock | 0o600, Major: 8, Minor: 1})
	begin("dir", catar.Entry{Mode: catar.ModeDir | 0o755})
	begin("a", catar.Entry{Mode: catar.ModeRegular | 0o755, UID: 1, GID: 2, MTime: 3, Size: 3000,
		XAttrs: []catar.XAttr{{Name: "user.a", Value: []byte("1")}}})
	begin("b", catar.Entry{Mode: catar.ModeRegular | 0o755, Size: 3000})
	err = errors.Join(err, e.End())
	begin("link", catar.Entry{Mode: catar.ModeLink | 0o777, Target: "dir/a"})
	if err = errors.Join(err, e.End()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whatever a sidecar says of an entry that is not so, nothing is taken out of the
// archive on its word: neither the entry, nor what it lies in, nor the names.
func TestLies(t *testing.T) {
	only := func(name string, change func(e *catar.Entry)) func(string, *catar.Entry) string {
		return func(n string, e *catar.Entry) string {
			if n == name {
				change(e)
			}
			return n
		}
	}
	truth := special(t, nil)
	for name, lie := range map[string]struct {
		path   string // in the sidecar
		change func(name string, e *catar.Entry) string
	}{
		"set-id bit":     {"dir/a", only("a", func(e *catar.Entry) { e.Mode |= 0o4000 })},
		"set-id of all":  {"dir", only("dir", func(e *catar.Entry) { e.Mode |= 0o2000 })},
		"user":           {"dir/a", only("a", func(e *catar.Entry) { e.UID = 0 })},
		"group":          {"dir/a", only("a", func(e *catar.Entry) { e.GID = 0 })},
		"time":           {"dir/a", only("a", func(e *catar.Entry) { e.MTime = 4 })},
		"device":         {"block", only("block", func(e *catar.Entry) { e.Minor = 0 })},
		"type of device": {"block", only("block", func(e *catar.Entry) { e.Mode = catar.ModeChar | 0o600 })},
		"target":         {"link", only("link", func(e *catar.Entry) { e.Target = "dir/b" })},
		"name": {"dir/c", func(n string, _ *catar.Entry) string {
			if n == "b" {
				return "c"
			}
			return n
		}},
		"attributes": {"dir/a", only("a", func(e *catar.Entry) {
			e.XAttrs, e.User = nil, "someone"
		})},
		"size": {"dir/a", func(n string, e *catar.Entry) string {
			e.Size += map[string]int64{"a": 1, "b": -1}[n]
			return n
		}},
		"place": {"dir/b", func(n string, e *catar.Entry) string {
			e.Size += map[string]int64{"a": 1, "b": -1}[n]
			return n
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a := indexed(t, truth, func(x *index.Index) IndexedOptions { return withSidecar(t, x, special(t, lie.change)) })
			defer a.Close()
			for door, read := range doors {
				r, err := a.Random(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				at, err := r.Find(t.Context(), lie.path)
				if err != nil {
					t.Fatal(err)
				}
				if err := read(t.Context(), r, at.ID); !errors.Is(err, tree.ErrContradicted) {
					t.Errorf("%s: got %v", door, err)
				}
			}
		})
	}
}

// doors are the ways in which something is taken out of an archive.
var doors = map[string]func(ctx context.Context, r *Random, id tree.ID) error{
	"Stat": func(ctx context.Context, r *Random, id tree.ID) error {
		_, err := r.Stat(ctx, id)
		return err
	},
	"Decode": func(ctx context.Context, r *Random, id tree.ID) error {
		_, c, err := r.Decode(ctx, id)
		if err == nil {
			err = c.Close()
		}
		return err
	},
	"Names": func(ctx context.Context, r *Random, id tree.ID) error {
		for _, err := range r.Names(ctx, id) {
			if err != nil {
				return err
			}
		}
		return nil
	},
	"Names of all": func(ctx context.Context, r *Random, _ tree.ID) error {
		for _, err := range r.Names(ctx, tree.Root) {
			if err != nil {
				return err
			}
		}
		return nil
	},
	"Complete": func(ctx context.Context, r *Random, _ tree.ID) error { return r.Complete(ctx) },
}

// Of what a Tree does not keep, the attributes' values, a sidecar's word counts
// for nothing at all.
func TestLieAboutValue(t *testing.T) {
	lie := special(t, func(n string, e *catar.Entry) string {
		if n == "a" {
			e.XAttrs[0].Value = []byte("2")
		}
		return n
	})
	a := indexed(t, special(t, nil), func(x *index.Index) IndexedOptions { return withSidecar(t, x, lie) })
	defer a.Close()
	r, err := a.Random(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at, err := r.Find(t.Context(), "dir/a")
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.Stat(t.Context(), at.ID)
	if err != nil || len(n.XAttrs) != 1 || string(n.XAttrs[0].Value) != "1" {
		t.Errorf("%+v, %v", n, err)
	}
	d, c, err := r.Decode(t.Context(), at.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err = d.Next(); err != nil || string(n.XAttrs[0].Value) != "1" {
		t.Errorf("%+v, %v", n, err)
	}
	if n, err := io.Copy(io.Discard, d); n != 3000 || err != nil {
		t.Error(n, err)
	}
}
