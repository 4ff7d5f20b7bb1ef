package catar_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/feature"
)

// A visit is a node as it was found by one of the two ways to read an archive.
type visit struct {
	catar.Node
	end int64
}

// streamed are an archive's nodes as the Decoder gives them.
func streamed(r io.Reader, opt catar.DecoderOptions) ([]catar.Node, error) {
	return nodesOf(catar.NewDecoder(r, opt))
}

// random are an archive's nodes as they are found by its tables.
func random(archive []byte) ([]visit, error) {
	var nodes []visit
	var flags feature.Flags
	var visitNode func(span catar.Span, depth int) error
	visitNode = func(span catar.Span, depth int) error {
		n, f, err := parseHead(archive[span.Start:], span.Start, span.End, flags)
		if errors.Is(err, catar.ErrNoNode) {
			return nil
		}
		if err != nil {
			return err
		}
		if depth == 0 {
			flags = f
		}
		n.Depth = depth
		nodes = append(nodes, visit{*n, span.End})
		if !n.IsDir() {
			return nil
		}
		goodbye, head, err := catar.ParseTail(archive[span.End-catar.TailSize:span.End], span.End)
		if err != nil {
			return err
		}
		if head != n.Head || goodbye < n.Body {
			return fmt.Errorf("the tail leads to %d and %d, the content of %d is at %d", goodbye, head, n.Head, n.Body)
		}
		table, err := catar.ParseTable(archive[goodbye:span.End], n.Body, goodbye)
		if err != nil {
			return err
		}
		for i := range table.Len() {
			if err := visitNode(table.Span(i), depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return nodes, visitNode(catar.Span{End: int64(len(archive))}, 0)
}

// parseHead gives catar.ParseHead as much as it asks for, as someone does who
// has to fetch it.
func parseHead(b []byte, start, end int64, f feature.Flags) (*catar.Node, feature.Flags, error) {
	for size, round := 0, 0; ; round++ {
		n, flags, err := catar.ParseHead(b[:size], start, end, f)
		var short *catar.ShortError
		if !errors.As(err, &short) {
			return n, flags, err
		}
		switch {
		case round > 24:
			return nil, 0, fmt.Errorf("%d bytes are not enough in round %d", size, round)
		case short.Need <= size || int64(short.Need) > end-start || short.Need > catar.MaxHead+8192:
			return nil, 0, fmt.Errorf("of %d bytes it had %d, and needs %d", end-start, size, short.Need)
		case short.Need > len(b):
			return nil, 0, io.ErrUnexpectedEOF
		}
		size = short.Need
	}
}

func TestBothWaysFindTheSame(t *testing.T) {
	archives := vectors(t)
	for _, name := range []string{"special", "unsorted", "collision"} {
		archives["desync/"+name] = read(t, "testdata/desync/"+name+".catar")
	}
	for name, archive := range archives {
		want, err := streamed(bytes.NewReader(archive), catar.DecoderOptions{})
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := random(archive)
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %d nodes, not %d, error %v", name, len(got), len(want), err)
			continue
		}
		for i, n := range want {
			if !reflect.DeepEqual(got[i].Node, n) {
				t.Errorf("%s: %+v, not %+v", name, got[i].Node, n)
			}
		}
	}
}

// Each node of an archive can be decoded for itself, and is found to be what it
// is in the archive.
func TestDecodeOneNode(t *testing.T) {
	archive := read(t, "testdata/tree.default.catar")
	all, err := random(archive)
	if err != nil {
		t.Fatal(err)
	}
	_, flags, err := catar.ParseHead(archive, 0, int64(len(archive)), 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range all {
		opt := catar.DecoderOptions{Node: &n.Node, Flags: flags}
		part := archive[n.Head:n.end]
		got, err := streamed(bytes.NewReader(part), opt)
		if err != nil {
			t.Errorf("%q: %v", n.Name, err)
			continue
		}
		for k := range got {
			want := all[i+k].Node
			want.Depth -= n.Depth
			if !reflect.DeepEqual(got[k], want) {
				t.Errorf("%q: %+v, not %+v", n.Name, got[k], want)
			}
		}

		for _, r := range []io.Reader{bytes.NewReader(part[:len(part)-1]), bytes.NewReader(append(part[:len(part):len(part)], 0))} {
			if _, err := streamed(r, opt); err == nil {
				t.Errorf("%q: accepted with a byte less or more", n.Name)
			}
		}
		if _, err := streamed(bytes.NewReader(part), catar.DecoderOptions{Node: &n.Node, Flags: flags &^ feature.ACL}); err == nil ||
			!strings.Contains(err.Error(), fmt.Sprintf("catar: offset %d: ENTRY: flags ", n.Head)) {
			t.Errorf("%q: with other flags: %v", n.Name, err)
		}
	}
}

// Depth counts from the node that a stream is of, its limit from the root.
func TestDepthOfOneNode(t *testing.T) {
	archive := read(t, "testdata/malformed/depth-63.catar") // 64 levels
	for depth, fits := range []bool{true, false} {
		n := catar.Node{Name: "d", Depth: depth}
		nodes, err := streamed(bytes.NewReader(archive), catar.DecoderOptions{Node: &n, Flags: 0x2000000000001f0a})
		if len(nodes) < 60 || nodes[0].Depth != 0 || nodes[59].Depth != 59 || (err == nil) != fits {
			t.Errorf("below %d others: %d nodes, error %v", depth, len(nodes), err)
		}
	}
}

func TestParseHeadRefuses(t *testing.T) {
	const f = feature.Permissions | feature.SHA512_256
	file := append(record(typeFilename, "a\x00"), appendFile(nil, f, "hi")...)
	dir := append(record(typeFilename, "a\x00"), directory(f)...)
	at := func(b []byte) int64 { return 64 + int64(len(b)) }
	tests := []struct {
		name       string
		b          []byte
		start, end int64
		want       string
	}{
		{"no node", file, 64, 63, "a node from 64 to 63"},
		{"nowhere", file, -1, 63, "a node from -1 to 63"},
		{"nothing", file, 64, 64, "offset 64: truncated where a FILENAME should be"},
		{"the end in a header", file, 64, 70, "offset 64: truncated in the header of a record"},
		{"the end in a name", file, 64, 81, "offset 64: truncated in a record: FILENAME of 18 bytes, of which there are 17"},
		{"a name only", file, 64, 82, "offset 82: truncated where an ENTRY should be"},
		{"a payload too long", file, 64, at(file) - 1, "offset 162: payload of 2 bytes in a node with 1 left"},
		{"a payload too short", append(file, 0), 64, at(file) + 1, "offset 162: payload of 2 bytes in a node with 3 left"},
		{"no room for a table", dir, 64, at(dir) - 1, "offset 146: 39 bytes left for a directory"},
		{"no FILENAME", dir[18:], 64, at(dir[18:]), "offset 64: ENTRY where a FILENAME should be"},
		{"no root", dir, 0, int64(len(dir)), "offset 0: FILENAME where an ENTRY should be"},
		{"no archive", []byte("#!/bin/sh\necho hello\n"), 0, 20, "offset 0: not an archive (want a .catar file)"},
	}
	for _, tt := range tests {
		_, _, err := catar.ParseHead(tt.b, tt.start, tt.end, f)
		if err == nil || !strings.HasPrefix(err.Error(), "catar: "+tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

// What one node may hold is bounded, and so is what ParseHead asks for.
func TestMuchMetadata(t *testing.T) {
	const f = feature.XAttrs | feature.Permissions | feature.SHA512_256
	tests := []struct {
		name, format string // of the attributes
		n, size      int
		want         string
	}{
		{"all that Linux lists", "user.%05d", 65536 / 11, 0, ""},
		{"more names than that", "user.%05d", 65536/11 + 1, 0, "names of more than 65536 bytes in one node"},
		{"200 large ones", "user.%03d", 200, 65536, ""},
		{"more than 16 MiB", "user.%03d", 256, 65536, "metadata of more than 16777216 bytes in one node"},
	}
	for _, tt := range tests {
		b := entry(f, 0o40755)
		for i := range tt.n {
			b = append(b, record(typeXAttr, fmt.Sprintf(tt.format, i)+"\x00"+strings.Repeat("v", tt.size))...)
		}
		goodbye := len(b)
		b = append(b, table(nil, uint64(goodbye))...)
		_, _, random := parseHead(b, 0, int64(len(b)), 0)
		for way, err := range map[string]error{"stream": refused(onlyReader{bytes.NewReader(b)}), "head": random} {
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s, %s: got %v, want %q", tt.name, way, err, tt.want)
			}
		}
	}
}
