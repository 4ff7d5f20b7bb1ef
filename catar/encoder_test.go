package catar_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/catar"
	"caravel/feature"
)

// everything is an archive with each record and each type of node, those too
// that no file system at hand has.
func everything(t testing.TB) []byte {
	t.Helper()
	f := (feature.Best | feature.SHA512_256).Normal()
	acl := &catar.ACL{
		Users:    []catar.ACLEntry{{ID: 1, Perm: 7, Name: "daemon"}, {ID: 12345, Perm: 4}},
		Groups:   []catar.ACLEntry{{ID: 2, Perm: 5, Name: "bin"}},
		Masked:   true,
		GroupObj: 4,
	}
	withDefault := *acl
	withDefault.Default = &catar.DefaultACL{
		UserObj: 7, GroupObj: 5, Masked: true, Mask: 5,
		Users: []catar.ACLEntry{{ID: 1, Perm: 6, Name: "daemon"}}, Groups: []catar.ACLEntry{{ID: 77, Perm: 0}},
	}
	attributes := []catar.XAttr{{Name: "trusted.t", Value: []byte{0, 1}}, {Name: "user.empty", Value: []byte{}}}
	const label = "system_u:object_r:etc_t:s0"

	var out bytes.Buffer
	e, err := catar.NewEncoder(&out, f)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, n catar.Entry, payload string) {
		t.Helper()
		if err := e.Begin(name, &n); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(e, payload); err != nil {
			t.Fatal(err)
		}
	}
	put("", catar.Entry{Mode: 0o40755, MTime: -1500000000}, "")
	put("device", catar.Entry{Mode: 0o60660, Major: 4095, Minor: 1<<20 - 1, ACL: acl}, "")
	put("dir", catar.Entry{
		Mode: 0o41777, User: "daemon", UID: 1, Group: "bin", GID: 2, XAttrs: attributes, ACL: &withDefault,
		SELinux: label, ProjID: math.MaxUint32, Flags: feature.Subvolume | feature.SubvolumeRO | feature.ProjInherit | feature.Hidden,
	}, "")
	put("a", catar.Entry{Mode: 0o100644, Size: 3}, "one")
	if err := e.End(); err != nil {
		t.Fatal(err)
	}
	put("fifo", catar.Entry{Mode: 0o10600, SELinux: label}, "")
	put("file", catar.Entry{
		Mode: 0o104755, Size: 3, User: "daemon", UID: 1, XAttrs: attributes, ACL: acl, SELinux: label, ProjID: 1,
		FCaps: []byte("\x01\x00\x00\x02" + strings.Repeat("\x00", 16)), Flags: feature.Chattr &^ feature.NoDump, MTime: math.MaxInt64,
	}, "two")
	put("link", catar.Entry{Mode: 0o120777, Target: "over/there", SELinux: label}, "")
	put("socket", catar.Entry{Mode: 0o140755}, "")
	if err := e.End(); err != nil {
		t.Fatal(err)
	}
	if e.Offset() != int64(out.Len()) {
		t.Fatalf("%d bytes, and it says %d", out.Len(), e.Offset())
	}
	return out.Bytes()
}

func TestEverythingComesBack(t *testing.T) {
	archive := everything(t)
	got, err := again(archive)
	if err != nil || !bytes.Equal(got, archive) {
		t.Errorf("%d bytes in place of %d, error %v", len(got), len(archive), err)
	}
}

// casync is the judge of the records that its own archives here do not have.
func TestCasyncReadsEverything(t *testing.T) {
	casync, err := exec.LookPath("casync")
	if err != nil {
		t.Skip("casync is not installed")
	}
	file := filepath.Join(t.TempDir(), "everything.catar")
	if err := os.WriteFile(file, everything(t), 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command(casync, "list", file).CombinedOutput()
	want := "drwxr-xr-x .\nbrw-rw---- device\ndrwxrwxrwt dir\n-rw-r--r-- dir/a\nprw------- fifo\n" +
		"-rwsr-xr-x file\nlrwxrwxrwx link\nsrwxr-xr-x socket\n"
	if err != nil || string(got) != want {
		t.Errorf("error %v: %s", err, got)
	}
	out, err := exec.Command(casync, "mtree", file, "dir/a").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "size=3 ") {
		t.Errorf("error %v: %s", err, out)
	}
}

// An Encoder that is not used as it wants to be says so, and goes on saying it.
func TestEncoderRefuses(t *testing.T) {
	dir, file := &catar.Entry{Mode: 0o40755}, &catar.Entry{Mode: 0o100644, Size: 2}
	xattrs := make([]catar.XAttr, 300)
	for i := range xattrs {
		xattrs[i] = catar.XAttr{Name: "user." + string(rune('a'+i/26)) + string(rune('a'+i%26)), Value: make([]byte, catar.MaxValue)}
	}
	type steps func(e *catar.Encoder) error
	begin := func(name string, n *catar.Entry) steps {
		return func(e *catar.Encoder) error { return e.Begin(name, n) }
	}
	write := func(s string) steps {
		return func(e *catar.Encoder) error { _, err := io.WriteString(e, s); return err }
	}
	copied := func(r io.Reader) steps { return func(e *catar.Encoder) error { _, err := e.ReadFrom(r); return err } }
	end := (*catar.Encoder).End
	tests := []struct {
		name  string
		steps []steps
		want  string
	}{
		{"end of nothing", []steps{end}, "no directory is open"},
		{"end twice", []steps{begin("", dir), end, end}, "no directory is open"},
		{"root with a name", []steps{begin("a", dir)}, `entry "a" before the root`},
		{"root is a file", []steps{begin("", file)}, "the root is a regular file"},
		{"child without a name", []steps{begin("", dir), begin("", dir)}, `the name "" is not one of a child`},
		{"bad name", []steps{begin("", dir), begin("a/b", dir)}, `the name "a/b" has a slash`},
		{"long name", []steps{begin("", dir), begin(strings.Repeat("a", 256), dir)}, "a name of 256 bytes, above 255"},
		{"order", []steps{begin("", dir), begin("b", dir), end, begin("a", dir)}, `entry "a" comes after "b"`},
		{"twice", []steps{begin("", dir), begin("b", dir), end, begin("b", dir)}, `entry "b" comes after "b"`},
		{"after the end", []steps{begin("", dir), end, begin("b", dir)}, `entry "b" after the end of the root`},
		{"payload missing, next", []steps{begin("", dir), begin("b", file), begin("c", dir)}, `entry "b": 2 bytes of payload are missing`},
		{"payload missing, end", []steps{begin("", dir), begin("b", file), write("x"), end}, `entry "b": 1 bytes of payload are missing`},
		{"payload too long", []steps{begin("", dir), begin("b", file), write("xxx")}, `entry "b": more payload than its size`},
		{"payload of a directory", []steps{begin("", dir), write("x")}, `entry "": more payload than its size`},
		{"file too long", []steps{begin("", dir), begin("b", file), copied(strings.NewReader("xxx"))}, `entry "b": more payload than its size`},
		{"file is bad", []steps{begin("", dir), begin("b", file), copied(iotest.ErrReader(io.ErrClosedPipe))}, `payload of "b": io: read/write on closed pipe`},
		{"file of a negative size", []steps{begin("", dir), begin("b", &catar.Entry{Mode: 0o100644, Size: -1})}, "payload of"},
		{"owner", []steps{begin("", &catar.Entry{Mode: 0o40755, UID: 65535})}, `entry "": owner 65535, which means none`},
		{"no type", []steps{begin("", &catar.Entry{Mode: 0o755})}, "mode 0755 has no known type"},
		{"link without a target", []steps{begin("", dir), begin("l", &catar.Entry{Mode: 0o120777})}, "target of 0 bytes"},
		{"too much metadata", []steps{begin("", &catar.Entry{Mode: 0o40755, XAttrs: xattrs})}, "bytes of metadata, above 16777216"},
		{"unsorted attributes", []steps{begin("", &catar.Entry{Mode: 0o40755, XAttrs: []catar.XAttr{xattrs[1], xattrs[0]}})}, `"user.aa" comes after "user.ab"`},
	}
	for _, tt := range tests {
		e, err := catar.NewEncoder(io.Discard, (feature.All | feature.SHA512_256).Normal())
		if err != nil {
			t.Fatal(err)
		}
		for i, step := range tt.steps {
			err = step(e)
			if last := i == len(tt.steps)-1; last != (err != nil) {
				t.Fatalf("%s: step %d: %v", tt.name, i, err)
			}
		}
		if !strings.HasPrefix(err.Error(), "catar: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.want)
		}
		if again := e.Begin("zzz", dir); again != err {
			t.Errorf("%s: afterwards %v", tt.name, again)
		}
	}
	if _, err := catar.NewEncoder(io.Discard, feature.Times); err == nil || !strings.HasPrefix(err.Error(), "catar: flags 0x78: not normalized") {
		t.Errorf("flags that are not normal: %v", err)
	}
}

func TestEncoderDepth(t *testing.T) {
	e, err := catar.NewEncoder(io.Discard, feature.SHA512_256)
	name := ""
	for level := 1; level <= catar.MaxDepth && err == nil; level++ {
		err = e.Begin(name, &catar.Entry{Mode: 0o40755})
		name = "d"
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Begin("d", &catar.Entry{Mode: 0o40755}); err == nil || err.Error() != `catar: entry "d": 65 levels deep, above 64` {
		t.Error(err)
	}
}

// Payloads of all sizes, in one go and in pieces, and through ReadFrom.
func TestEncoderPayload(t *testing.T) {
	for _, size := range []int{0, 1, 16<<10 - 1, 16 << 10, 64 << 10, 256<<10 - 1, 256 << 10, 1 << 20} {
		payload := bytes.Repeat([]byte("payload\n"), size/8+1)[:size]
		ways := map[string]func(e *catar.Encoder) error{
			"at once": func(e *catar.Encoder) error { _, err := e.Write(payload); return err },
			"in pieces": func(e *catar.Encoder) error {
				_, err := io.Copy(onlyWriter{e}, iotest.HalfReader(bytes.NewReader(payload)))
				return err
			},
			"ReadFrom": func(e *catar.Encoder) error { _, err := io.Copy(e, onlyReader{bytes.NewReader(payload)}); return err },
			"slowly": func(e *catar.Encoder) error {
				_, err := io.Copy(e, iotest.DataErrReader(bytes.NewReader(payload)))
				return err
			},
		}
		for way, write := range ways {
			var out bytes.Buffer
			e, err := catar.NewEncoder(&out, feature.SHA512_256)
			if err := errors.Join(err, e.Begin("", &catar.Entry{Mode: 0o40755}), e.Begin("f", &catar.Entry{Mode: 0o100644, Size: int64(size)}),
				write(e), e.Begin("g", &catar.Entry{Mode: 0o100644}), e.End()); err != nil {
				t.Fatalf("%d bytes %s: %v", size, way, err)
			}
			d := catar.NewDecoder(&out, catar.DecoderOptions{})
			for range 2 {
				if _, err := d.Next(); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%d bytes %s: %d came back, error %v", size, way, len(got), err)
			}
		}
	}
}

type onlyWriter struct{ io.Writer }

// A writer that fails is noticed, at the latest with the end.
func TestEncoderPassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	r, w := io.Pipe()
	r.CloseWithError(broken)
	e, err := catar.NewEncoder(w, feature.SHA512_256)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Begin("", &catar.Entry{Mode: 0o40755}), e.End()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// What Begin is given is the caller's, and is not written into.
func TestBeginLeavesTheEntry(t *testing.T) {
	make := func() *catar.Entry {
		return &catar.Entry{
			Mode: 0o40755, UID: 7, User: "x.y", MTime: 1, ProjID: 3,
			XAttrs: []catar.XAttr{{Name: "security.ima"}, {Name: "user.a"}},
			ACL:    &catar.ACL{Masked: true, Users: []catar.ACLEntry{{ID: 9, Name: "b"}, {ID: 10, Name: "a"}}},
		}
	}
	n := make()
	e, err := catar.NewEncoder(io.Discard, (feature.UserNames | feature.ACL | feature.XAttrs).Normal())
	if err := errors.Join(err, e.Begin("", n)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(n, make()) {
		t.Errorf("now %+v", n)
	}
}
