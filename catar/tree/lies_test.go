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
	byType, byKind := make(map[uint64]*verdicts), make(map[string]*verdicts)
	for name, archive := range map[string][]byte{
		"sorts": sorts(t, nil), "attributes": attributes(t), "desync": unpack(t, "desync/special.catar"),
	} {
		t.Run(name, func(t *testing.T) {
			told := truthOf(t, archive)
			bare := unsealed(t, skimmed(t, archive))
			at := recordsOf(bare)
			for i := range len(at) - 1 {
				typ := binary.LittleEndian.Uint64(bare[at[i]+8:])
				if byType[typ] == nil {
					byType[typ] = new(verdicts)
				}
				for j, lie := range liesOf(bare, at, i) {
					if raced && j%8 != i%8 {
						continue // nobody has the time for all of them
					}
					if byKind[lie.kind] == nil {
						byKind[lie.kind] = new(verdicts)
					}
					v := told.judge(t, balanced(lie.bare, len(archive)))
					byType[typ].add(v)
					byKind[lie.kind].add(v)
				}
			}
		})
	}
	for typ, v := range byType {
		if v.refused == 0 || !raced && (v.found == 0) != neverFound[typ] {
			t.Errorf("records of type %#x: %+v", typ, *v)
		}
	}
	for kind, v := range byKind {
		if v.refused == 0 || (v.found == 0) != (kind == "repeated") { // no record may be twice
			t.Errorf("what is %s: %+v", kind, *v)
		}
	}
	if len(byType) != 18 || len(byKind) != 5 {
		t.Errorf("only %d types of records, and %d kinds of lies", len(byType), len(byKind))
	}
}

// neverFound are the types of records of which nothing remains for the archive to
// contradict: a sidecar in which they do not fit what is around them is refused, and
// of what they say beside that a Tree keeps nothing.
var neverFound = map[uint64]bool{
	goodbyeRecord: true,

	0x23047110441f38f3: true, // ACL_GROUP_OBJ
	0xfe3eeda6823c8cd0: true, // ACL_DEFAULT
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

// A lie is a version of a bare archive, and what was done to a record in it.
type lie struct {
	kind string
	bare []byte
}

// liesOf are versions of a bare archive in which record i is another one.
func liesOf(bare []byte, at []int, i int) (lies []lie) {
	tell := func(kind string, bare []byte) { lies = append(lies, lie{kind, bare}) }
	from, to := at[i], at[i+1]
	for b := from; b < to; b++ {
		for _, bit := range []byte{1, 8, 0x80} {
			changed := bytes.Clone(bare)
			changed[b] ^= bit
			tell("changed", changed)
		}
	}
	record := bare[from:to]
	without := slices.Delete(bytes.Clone(bare), from, to)
	tell("left out", without)
	tell("repeated", slices.Insert(bytes.Clone(bare), from, record...))
	for j := range len(at) - 1 {
		if where := at[j]; where < from {
			tell("elsewhere", slices.Insert(bytes.Clone(without), where, record...))
		}
		tell("replaced", slices.Concat(bare[:from], bare[at[j]:at[j+1]], bare[to:]))
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

func (v *verdicts) add(o verdicts) {
	v.refused += o.refused
	v.found += o.found
	v.harmless += o.harmless
}

// judge makes sure that nothing false of a bare archive gets through.
func (told truth) judge(t *testing.T, bare []byte) (v verdicts) {
	t.Helper()
	file := sealed(compressed(bare), len(told.archive))
	s, err := tree.ReadSidecar(bytes.NewReader(file), [32]byte{}, int64(len(told.archive)))
	if err != nil {
		return verdicts{refused: 1}
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
	return v
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
