package tree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
)

// Whatever one record of a sidecar is made to say, with a digest that is right:
// the file is refused, or what is confirmed of it is what the archive says. So it
// is for each type of record, wherever something is changed, left out, repeated or
// put elsewhere.
func TestLies(t *testing.T) {
	seen := make(map[uint64]*verdicts)
	for name, archive := range map[string][]byte{
		"sorts": sorts(t, nil), "attributes": attributes(t), "desync": unpack(t, "desync/special.catar"),
	} {
		t.Run(name, func(t *testing.T) {
			told := truthOf(t, archive)
			bare := unsealed(t, skimmed(t, archive))
			at := recordsOf(bare)
			for i := range len(at) - 1 {
				typ := binary.LittleEndian.Uint64(bare[at[i]+8:])
				if seen[typ] == nil {
					seen[typ] = new(verdicts)
				}
				for j, lie := range liesOf(bare, at, i) {
					if raced && j%8 != i%8 {
						continue // nobody has the time for all of them
					}
					seen[typ].judge(t, balanced(lie, len(archive)), told)
				}
			}
		})
	}
	for typ, v := range seen {
		if v.refused == 0 || v.found+v.harmless == 0 && !raced {
			t.Errorf("records of type %#x: %+v", typ, *v)
		}
	}
	if len(seen) != 18 {
		t.Errorf("only %d types of records", len(seen))
	}
}

// attributes is an archive with two entries that have all records there are.
func attributes(t *testing.T) []byte {
	names := []catar.ACLEntry{{ID: 5, Name: "someone", Perm: 7}}
	all := catar.Entry{
		Mode: catar.ModeDir | 0o755, User: "somebody", Group: "users", SELinux: "label", ProjID: 3,
		XAttrs: []catar.XAttr{{Name: "user.a", Value: []byte("1")}},
		ACL: &catar.ACL{Users: names, Groups: names, GroupObj: 5, Masked: true,
			Default: &catar.DefaultACL{UserObj: 7, GroupObj: 5, Other: 5, Mask: 7, Masked: true, Users: names, Groups: names}},
	}
	m := newMaker(t, (flags | feature.ACL | feature.SELinux | feature.FCaps | feature.QuotaProjID).Normal())
	m.begin("dir", all)
	acl := *all.ACL
	acl.Default = nil
	all.Mode, all.ACL, all.FCaps = catar.ModeRegular|0o755, &acl, []byte("capabilities")
	m.begin("file", all)
	m.end()
	return m.bytes()
}

// liesOf are versions of a bare archive in which record i is another one.
func liesOf(bare []byte, at []int, i int) (lies [][]byte) {
	from, to := at[i], at[i+1]
	for b := from; b < to; b++ {
		for _, bit := range []byte{1, 8, 0x80} {
			lie := bytes.Clone(bare)
			lie[b] ^= bit
			lies = append(lies, lie)
		}
	}
	record := bare[from:to]
	without := slices.Delete(bytes.Clone(bare), from, to)
	lies = append(lies, without, slices.Insert(bytes.Clone(bare), from, record...))
	for j := range len(at) - 1 {
		if where := at[j]; where < from {
			lies = append(lies, slices.Insert(bytes.Clone(without), where, record...))
		}
		lies = append(lies, slices.Concat(bare[:from], bare[at[j]:at[j+1]], bare[to:]))
	}
	return lies
}

// balanced makes a bare archive one of size bytes: the last file that is long
// enough gets what is missing, or gives what is too much.
func balanced(bare []byte, size int) []byte {
	left, file := uint64(size), -1
	for off := 0; off+16 <= len(bare); {
		n, typ := binary.LittleEndian.Uint64(bare[off:]), binary.LittleEndian.Uint64(bare[off+8:])
		if n < 16 {
			return bare
		}
		left -= n
		switch typ {
		case payloadRecord:
			file = off
			fallthrough
		case goodbyeRecord:
			n = 16
		}
		if n > uint64(len(bare)-off) {
			return bare
		}
		off += int(n)
	}
	if file >= 0 {
		binary.LittleEndian.PutUint64(bare[file:], binary.LittleEndian.Uint64(bare[file:])+left)
	}
	return bare
}

// A fact is what an archive says of an entry.
type fact struct {
	path, target string
	attr         tree.Attr
	span         catar.Span
	node         *catar.Node
}

// A truth is all that an archive says.
type truth struct {
	archive []byte
	by      map[int64]fact // by where the ENTRY is
}

func truthOf(t *testing.T, archive []byte) truth {
	t.Helper()
	tr := open(t, archive)
	told := truth{archive, make(map[int64]fact)}
	for step, err := range tr.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
		told.by[tr.Span(step.ID).Start] = factOf(t, tr, step.ID, step.Path)
	}
	return told
}

func factOf(t *testing.T, tr *tree.Tree, id tree.ID, path string) fact {
	t.Helper()
	f := fact{path: path, attr: tr.Attr(id), span: tr.Span(id)}
	f.target, _ = tr.Target(t.Context(), id)
	f.attr.ID = 0
	var err error
	if f.node, err = tr.Entry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return f
}

// verdicts are how many sidecars were refused by themselves, found out by the
// archive, or said nothing that is not so.
type verdicts struct{ refused, found, harmless int }

// judge makes sure that nothing false of a bare archive gets through.
func (v *verdicts) judge(t *testing.T, bare []byte, told truth) {
	t.Helper()
	file := sealed(compressed(bare), len(told.archive))
	s, err := tree.ReadSidecar(bytes.NewReader(file), [32]byte{}, int64(len(told.archive)))
	if err != nil {
		v.refused++
		return
	}
	fresh := func() *tree.Tree { return openWith(t, s, memory(told.archive), tree.Options{InFlight: 1}) }
	tr := fresh()
	switch err := tr.ConfirmAll(t.Context()); {
	case err == nil:
		v.harmless++
		sameTree(t, tr, open(t, told.archive))
		if tr.Len() != len(told.by) {
			t.Errorf("confirmed: %d entries, not %d", tr.Len(), len(told.by))
		}
	case errors.Is(err, tree.ErrContradicted):
		v.found++
		believedIsTrue(t, tr, told.archive)
	default:
		t.Error(err)
	}
	tr = fresh()
	for step, err := range tr.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
		told.compare(t, fresh, step)
	}
}

// compare makes sure that what is confirmed of an entry is so.
func (told truth) compare(t *testing.T, fresh func() *tree.Tree, step tree.Step) {
	t.Helper()
	wrong := func(door string, said fact, err error) {
		t.Helper()
		fact, ok := told.by[said.span.Start]
		switch {
		case errors.Is(err, tree.ErrContradicted):
			return
		case err != nil:
			t.Errorf("%s: %v", door, err)
			return
		case door != "ConfirmPath": // these are of the records alone
			fact.path, said.path = "", ""
			if said.node == nil {
				said.node = fact.node
			}
			said.node.Depth = fact.node.Depth
			if fact.node.IsDir() {
				fact.span.End = said.span.End
			}
		}
		if !ok || !reflect.DeepEqual(said, fact) {
			t.Errorf("%s: %+v, not %+v", door, said, fact)
		}
	}
	said := func(tr *tree.Tree) fact {
		f := fact{path: step.Path, attr: tr.Attr(step.ID), span: tr.Span(step.ID)}
		f.attr.ID = 0
		f.target, _ = tr.Target(t.Context(), step.ID)
		return f
	}
	tr := fresh()
	f := said(tr)
	wrong("Confirm", f, tr.Confirm(t.Context(), step.ID))
	tr = fresh()
	n, err := tr.Entry(t.Context(), step.ID)
	f.node = n
	wrong("Entry", f, err)
	tr = fresh()
	if err = tr.ConfirmPath(t.Context(), step.ID); err == nil {
		f.node, _ = tr.Entry(t.Context(), step.ID)
	}
	wrong("ConfirmPath", f, err)
}
