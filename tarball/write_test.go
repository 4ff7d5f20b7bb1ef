package tarball_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/feature"
	"caravel/tarball"
)

const flags = feature.Best | feature.SHA512_256

// A node of an archive that a test makes; a directory ends at a node without a name.
type node struct {
	name string
	catar.Entry
	content []byte
}

// archive makes one of nodes.
func archive(t testing.TB, nodes ...node) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, flags)
	if err == nil {
		err = e.Begin("", &catar.Entry{Mode: catar.ModeDir | 0o755, MTime: 1})
	}
	for _, n := range nodes {
		if err == nil && n.name == "" {
			err = e.End()
			continue
		}
		n.Size = int64(len(n.content))
		if err == nil {
			err = e.Begin(n.name, &n.Entry)
		}
		if err == nil {
			_, err = e.Write(n.content)
		}
	}
	if err == nil {
		err = e.End()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// asTar writes an archive as a tar stream.
func asTar(t testing.TB, archive []byte, opt tarball.WriteOptions) ([]byte, tarball.Written) {
	t.Helper()
	var b bytes.Buffer
	got, err := tarball.Write(t.Context(), &b, catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{}), opt)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), got
}

// TestWrite checks that what is written reads back the same, here and by archive/tar.
func TestWrite(t *testing.T) {
	long := strings.Repeat("n", 200)
	holes := make([]byte, 3<<20)
	copy(holes[1<<20:], "in the middle")
	start := append(bytes.Repeat([]byte("s"), 70000), make([]byte, 200000)...)
	regular, dir := uint32(catar.ModeRegular), uint32(catar.ModeDir)
	nodes := []node{
		{"attrs", catar.Entry{Mode: regular | 0o4711, UID: 1 << 31, GID: 5, User: "somebody", MTime: -1_750_000_001,
			XAttrs: []catar.XAttr{{Name: "user.a=%", Value: []byte("\x00\n")}}, FCaps: []byte{1, 2, 3}, SELinux: "label", Flags: feature.Append | feature.NoDump}, []byte("12345")},
		{"b\xff" + long[:150], catar.Entry{Mode: regular, MTime: 1 << 60}, []byte("x")},
		{"c", catar.Entry{Mode: catar.ModeChar | 0o600, Major: 4095, Minor: 1<<20 - 1}, nil},
		{"dir", catar.Entry{Mode: dir | 0o1777, ACL: &catar.ACL{Masked: true, GroupObj: 5, Users: []catar.ACLEntry{{ID: 3, Perm: 7, Name: "sys"}, {ID: 1234, Perm: 4}},
			Default: &catar.DefaultACL{UserObj: 7, GroupObj: 5, Masked: true, Mask: 7, Groups: []catar.ACLEntry{{ID: 6, Perm: 1}}}}}, nil},
		{"holes", catar.Entry{Mode: regular | 0o600}, holes},
		{"l" + long, catar.Entry{Mode: catar.ModeLink | 0o777, Target: long + "/ü\xff" + long}, nil},
		{long, catar.Entry{Mode: dir}, nil},
		{long, catar.Entry{Mode: regular | 0o644}, bytes.Repeat([]byte("x"), 512)},
		{},
		{},
		{"p", catar.Entry{Mode: catar.ModeFIFO | 0o600}, nil},
		{"start", catar.Entry{Mode: regular | 0o600, MTime: 5}, start},
		{"zeros", catar.Entry{Mode: regular}, make([]byte, 1<<20)},
		{"ümläut", catar.Entry{Mode: regular, MTime: 1e9}, nil},
	}
	for _, fill := range []bool{false, true} {
		stream, got := asTar(t, archive(t, nodes...), tarball.WriteOptions{Fill: fill})
		if got.Entries != int64(len(nodes)-2+1) || got.Lost.Count != 0 {
			t.Errorf("%d entries, lost %v", got.Entries, got.Lost)
		}
		if sparse := len(stream) < 1<<20; sparse == fill {
			t.Errorf("%d bytes", len(stream))
		}
		sameNodes(t, stream, nodes)
	}
}

// sameNodes compares what a stream has below its root with nodes.
func sameNodes(t *testing.T, stream []byte, nodes []node) {
	t.Helper()
	ours := tarball.NewReader(pipe(stream), tarball.ReaderOptions{})
	theirs := tar.NewReader(bytes.NewReader(stream))
	for i, want := range append([]node{{name: "./", Entry: catar.Entry{Mode: catar.ModeDir | 0o755, MTime: 1}}}, nodes...) {
		if want.name == "" {
			continue
		}
		m, err := ours.Next()
		h, errTheirs := theirs.Next()
		if err != nil || errTheirs != nil {
			t.Fatal(err, errTheirs)
		}
		content, err := io.ReadAll(ours)
		if err != nil {
			t.Fatal(err)
		}
		want.Size = int64(len(want.content))
		if base := strings.Split(strings.TrimSuffix(m.Name, "/"), "/"); base[len(base)-1] != strings.TrimSuffix(want.name, "/") || h.Name != m.Name {
			t.Errorf("node %d: called %q, and %q in archive/tar", i, m.Name, h.Name)
		}
		if !reflect.DeepEqual(m.Entry, want.Entry) || m.Refused != "" || m.Lost != nil {
			t.Errorf("%q:\n%+v, refused %q, lost %q; want\n%+v", want.name, m.Entry, m.Refused, m.Lost, want.Entry)
		}
		if !bytes.Equal(content, want.content) {
			t.Errorf("%q: %d bytes, which differ from the %d wanted", want.name, len(content), len(want.content))
		}
	}
	if _, err := ours.Next(); err != io.EOF || ours.Cut() {
		t.Errorf("at the end: %v, %v", err, ours.Cut())
	}
}

// TestWriteLost checks that what tar cannot say is listed.
func TestWriteLost(t *testing.T) {
	stream, got := asTar(t, archive(t,
		node{"f", catar.Entry{Mode: catar.ModeRegular, Flags: feature.Hidden | feature.NoComp, ProjID: 7}, nil},
		node{"s", catar.Entry{Mode: catar.ModeSocket | 0o600}, nil},
	), tarball.WriteOptions{})
	want := []string{`"f": flag-hidden,flag-nocomp`, `"f": quota-projid 7`, `"s": a socket, of which tar knows nothing`}
	if got.Entries != 2 || got.Lost.Count != 3 || !slices.Equal(got.Lost.First, want) {
		t.Errorf("%+v", got)
	}
	if bytes.Contains(stream, []byte("s\x00")) && bytes.Count(stream, []byte("ustar")) != 2 {
		t.Error("the socket is in the stream")
	}
}

// TestWriteEnds checks that a writer ends with its context, and without one who reads.
func TestWriteEnds(t *testing.T) {
	a := archive(t, node{"f", catar.Entry{Mode: catar.ModeRegular}, make([]byte, 4<<20)})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	if _, err := tarball.Write(ctx, io.Discard, catar.NewDecoder(bytes.NewReader(a), catar.DecoderOptions{}), tarball.WriteOptions{}); err != io.ErrNoProgress {
		t.Error(err)
	}
	r, w := io.Pipe()
	r.CloseWithError(io.ErrShortBuffer)
	if _, err := tarball.Write(t.Context(), w, catar.NewDecoder(bytes.NewReader(a), catar.DecoderOptions{}), tarball.WriteOptions{}); err != io.ErrShortBuffer {
		t.Error(err)
	}
	if _, err := tarball.Write(t.Context(), io.Discard, catar.NewDecoder(bytes.NewReader(a[:len(a)-100]), catar.DecoderOptions{}), tarball.WriteOptions{}); err == nil {
		t.Error("an archive that is cut off is written without a word")
	}
}
