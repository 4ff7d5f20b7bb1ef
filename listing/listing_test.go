package listing_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"caravel/catar"
	"caravel/chunker"
	"caravel/feature"
	"caravel/listing"
)

// each calls do with every entry of an archive and the digests that stat shows.
func each(t testing.TB, archive []byte, do func(path string, n *catar.Node, d listing.Details)) {
	t.Helper()
	d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{})
	var names []string
	for {
		n, err := d.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if n.Depth > 0 {
			names = append(names[:n.Depth-1], n.Name)
		}
		end := n.Body
		if n.IsRegular() {
			end += n.Size
		}
		sum := d.Flags().Digest().Sum
		do(strings.Join(names, "/"), n, listing.Details{
			Flags:  d.Flags(),
			Digest: sum(archive[n.Body:end]),
			Link:   sum(archive[n.Head:end]),
		})
	}
}

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAsCasync compares with what casync printed, but for the flags in mtree of
// nodes that have none.
func TestAsCasync(t *testing.T) {
	unset := regexp.MustCompile(`( type=(?:link|fifo|socket|char|block) .*) flags=\S+`)
	for _, name := range []string{"tree.default", "tree.unix"} {
		var list, mtree []byte
		each(t, vector(t, name+".catar"), func(path string, n *catar.Node, d listing.Details) {
			list = listing.List(list, path, n.Mode)
			mtree = listing.MTree(mtree, path, n, d.Flags, d.Digest)
			if path == "j-acl" && name == "tree.default" {
				same(t, "stat", listing.Stat(nil, path, n, d), vector(t, name+".stat-j-acl"))
			}
		})
		same(t, name+": list", list, vector(t, name+".list"))
		same(t, name+": mtree", mtree, unset.ReplaceAll(vector(t, name+".mtree"), []byte("$1")))
	}
}

// same compares line by line.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	g, w := strings.SplitAfter(string(got), "\n"), strings.SplitAfter(string(want), "\n")
	for i := range max(len(g), len(w)) {
		switch {
		case i >= len(g):
			t.Fatalf("%s: line %d is missing: %s", what, i+1, w[i])
		case i >= len(w):
			t.Fatalf("%s: line %d is too many: %s", what, i+1, g[i])
		case g[i] != w[i]:
			t.Fatalf("%s: line %d\ngot  %swant %s", what, i+1, g[i], w[i])
		}
	}
}

func TestMode(t *testing.T) {
	for mode, want := range map[uint32]string{
		0o100644: "-rw-r--r--",
		0o041777: "drwxrwxrwt",
		0o041776: "drwxrwxrwT",
		0o104755: "-rwsr-xr-x",
		0o102755: "-rwxr-sr-x",
		0o106644: "-rwSr-Sr--",
		0o120777: "lrwxrwxrwx",
		0o010000: "p---------",
		0o140001: "s--------x",
		0o020600: "crw-------",
		0o060060: "b---rw----",
	} {
		if got := string(listing.List(nil, "x", mode)); got != want+" x\n" {
			t.Errorf("%o: %q, want %q", mode, got, want)
		}
	}
}

// TestMTreeKeepsWhatIsStored checks what depends on the archive's flags.
func TestMTreeKeepsWhatIsStored(t *testing.T) {
	file := &catar.Node{Entry: catar.Entry{
		Mode: 0o100644, UID: 5, GID: 0, User: "games", MTime: 1_500_000_000_000_000_007, Size: 3,
		Flags: feature.Hidden | feature.Immutable | feature.NoDump,
	}}
	old := &catar.Node{Entry: catar.Entry{Mode: 0o40755, MTime: -1_500_000_000}}
	device := &catar.Node{Entry: catar.Entry{Mode: 0o60600, Major: 259, Minor: 74565, Flags: feature.Hidden}}
	id := chunker.ID{1: 0xab}
	const none = feature.SHA512_256
	tests := []struct {
		n    *catar.Node
		f    feature.Flags
		want string
	}{
		{file, none, "mode=0644 size=3 sha512256digest=" + id.String()},
		{file, 0, "mode=0644 size=3 sha256digest=" + id.String()},
		{file, none | feature.UID32, "size=3 uid=5 gid=0 sha512256"},
		{file, none | feature.UID32 | feature.UserNames, "uid=5 gid=0 uname=games gname=root sha512256"},
		{file, none | feature.UserNames, "size=3 uname=games gname=root sha512256"},
		{file, none | feature.FATAttrs, "flags=hidden,nosystem,noarchive sha"},
		{file, none | feature.Append | feature.NoDump | feature.Immutable, "flags=nosappend,nodump,simmutable sha"},
		{file, none | feature.NoAtime, "size=3 sha"}, // mtree(5) has no word for it
		{file, none | feature.NanoTime, "time=1500000000.000000007 sha"},
		{old, none | feature.NanoTime, "mode=0755 time=18446744072.209551616\n"}, // as casync
		{device, none | feature.FATAttrs, " type=block mode=0600 device=linux,259,74565\n"},
	}
	for _, tt := range tests {
		if got := string(listing.MTree(nil, "x", tt.n, tt.f, id)); !strings.Contains(got, tt.want) {
			t.Errorf("%#x: %q, want %q in it", uint64(tt.f), got, tt.want)
		}
	}
}

func TestStatTime(t *testing.T) {
	n := &catar.Node{Entry: catar.Entry{Mode: 0o40755, MTime: 1_500_000_000_000_000_007}}
	d := listing.Details{Flags: feature.NanoTime, ProjID: true, Zone: time.FixedZone("", -3600)}
	got := string(listing.Stat(nil, "", n, d))
	want := "    File: .\n    Mode: drwxr-xr-x\nFileAttr: ----------\n FATAttr: ---\n  Offset: 0\n" +
		"    Time: 2017-07-14 01:40:00.000000007\n  ProjID: 0\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestJSON checks that each entry of the tree is valid and comes back.
func TestJSON(t *testing.T) {
	entries := 0
	each(t, vector(t, "tree.default.catar"), func(path string, n *catar.Node, d listing.Details) {
		entries++
		b, err := json.Marshal(listing.Whole(path, n, d))
		if err != nil {
			t.Fatal(err)
		}
		var e listing.Entry
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		name := e.Path
		if e.PathBytes != nil {
			name = string(e.PathBytes)
		}
		switch {
		case name != path && path != "" || path == "" && name != ".":
			t.Errorf("%q is %s", path, b)
		case *e.Offset != n.Head || e.MTime.UnixNano() != n.MTime || len(e.XAttrs) != len(n.XAttrs):
			t.Errorf("%q is %s", path, b)
		case (e.Size != nil) != n.IsRegular() || (e.Digest != "") != n.IsRegular() || (e.Link == "") != n.IsDir():
			t.Errorf("%q is %s", path, b)
		}
	})
	if entries < 50 {
		t.Errorf("%d entries", entries)
	}
}

// What JSON cannot hold comes as bytes as well.
func TestJSONBytes(t *testing.T) {
	const odd = "user.\xff"
	n := &catar.Node{Entry: catar.Entry{Mode: 0o100644, XAttrs: []catar.XAttr{{Name: odd, Value: []byte{0xfe}}}}}
	b, err := json.Marshal(listing.Whole(odd, n, listing.Details{}))
	if err != nil {
		t.Fatal(err)
	}
	var e listing.Entry
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	if string(e.PathBytes) != odd || len(e.XAttrs) != 1 || string(e.XAttrs[0].NameBytes) != odd || string(e.XAttrs[0].Value) != "\xfe" {
		t.Errorf("%s", b)
	}
}

func ExampleMTree() {
	n := &catar.Node{Entry: catar.Entry{Mode: 0o120777, UID: 1, GID: 2, Target: "a file"}}
	fmt.Print(string(listing.MTree(nil, "a link", n, feature.UID32, chunker.ID{})))
	// Output: a\040link type=link mode=0777 link=a\040file uid=1 gid=2
}

func BenchmarkMTree(b *testing.B) {
	n := &catar.Node{Entry: catar.Entry{Mode: 0o100644, Size: 12345, MTime: 1_500_000_000_000_000_007}}
	f := feature.Flags(feature.Best | feature.SHA512_256)
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line = listing.MTree(line[:0], "usr/share/doc/caravel/README.md", n, f, chunker.ID{})
	}
	if !bytes.HasSuffix(line, []byte("00\n")) {
		b.Errorf("%s", line)
	}
}
