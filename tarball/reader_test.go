package tarball_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"caravel/catar"
	"caravel/feature"
	"caravel/tarball"
)

// written is a tar stream with some headers, and x for each byte of their files.
func written(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// file is the header of one with records.
func file(records map[string]string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o640, Size: 3, PAXRecords: records}
}

// kernelACL is a list as an attribute's value.
func kernelACL(entries ...uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for i := 0; i < len(entries); i += 3 {
		b = binary.LittleEndian.AppendUint16(b, uint16(entries[i]))
		b = binary.LittleEndian.AppendUint16(b, uint16(entries[i+1]))
		b = binary.LittleEndian.AppendUint32(b, entries[i+2])
	}
	return string(b)
}

func TestMember(t *testing.T) {
	const none = 1<<32 - 1
	regular := func(change func(e *catar.Entry)) tarball.Member {
		m := tarball.Member{Name: "f", Entry: catar.Entry{Mode: catar.ModeRegular | 0o640, Size: 3}}
		change(&m.Entry)
		return m
	}
	lost := func(what string) tarball.Member {
		m := regular(func(*catar.Entry) {})
		m.Lost = []string{what}
		return m
	}
	masked := &catar.ACL{Masked: true, GroupObj: 4, Users: []catar.ACLEntry{{ID: 7, Perm: 6, Name: "lisa"}, {ID: 1234, Perm: 5}}}
	tests := []struct {
		name string
		in   tar.Header
		want tarball.Member
	}{
		{"attributes", file(map[string]string{"SCHILY.xattr.user.b": "2\x00", "SCHILY.xattr.user.a%3D%25": "", "SCHILY.xattr.trusted.t": "t"}),
			regular(func(e *catar.Entry) {
				e.XAttrs = []catar.XAttr{{Name: "trusted.t", Value: []byte("t")}, {Name: "user.a=%", Value: []byte{}}, {Name: "user.b", Value: []byte("2\x00")}}
			})},
		{"of bsdtar, which has the names in the other kind of record as they are", file(map[string]string{
			"SCHILY.xattr.user.a%3D": "1", "LIBARCHIVE.xattr.user.a%253D": base64.RawStdEncoding.EncodeToString([]byte("1"))}),
			regular(func(e *catar.Entry) { e.XAttrs = []catar.XAttr{{Name: "user.a%3D", Value: []byte("1")}} })},
		{"bsdtar's other record of a name with a = in it", file(map[string]string{"SCHILY.xattr.user.b": "=2", "LIBARCHIVE.xattr.user.a": "MQ"}),
			regular(func(e *catar.Entry) { e.XAttrs = []catar.XAttr{{Name: "user.a", Value: []byte("1")}} })},
		{"one that can be read in the other kind only", file(map[string]string{"SCHILY.xattr.user.a": "1", "LIBARCHIVE.xattr.user.a": "!"}),
			regular(func(e *catar.Entry) { e.XAttrs = []catar.XAttr{{Name: "user.a", Value: []byte("1")}} })},
		{"a name with a NUL", file(map[string]string{"LIBARCHIVE.xattr.user.a%00b": "MQ"}), lost(`attribute "user.a\x00b"`)},
		{"a label that is too long", file(map[string]string{"RHT.security.selinux": strings.Repeat("l", 4096)}),
			lost(`attribute "security.selinux" of 4096 bytes, above 4095`)},
		{"a list with nobody", file(map[string]string{"SCHILY.acl.access": "user::rw-,user:4294967295:r--,group::r--,mask::r--,other::---"}),
			lost("SCHILY.acl.access: names 4294967295, which means nobody")},
		{"bad base64", file(map[string]string{"LIBARCHIVE.xattr.user.a": "!"}), lost(`attribute "user.a", which cannot be read`)},
		{"capabilities and a label", file(map[string]string{"SCHILY.xattr.security.capability": "\x01\x02", "RHT.security.selinux": "system_u:object_r:bin_t:s0\x00"}),
			regular(func(e *catar.Entry) { e.FCaps, e.SELinux = []byte{1, 2}, "system_u:object_r:bin_t:s0" })},
		{"another namespace", file(map[string]string{"SCHILY.xattr.security.ima": "1"}), lost(`attribute "security.ima"`)},
		{"an unknown record", file(map[string]string{"ACME.colour": "red"}), lost(`record "ACME.colour"`)},
		{"records of no account", file(map[string]string{"comment": "c", "SCHILY.nlink": "2", "LIBARCHIVE.creationtime": "1"}), regular(func(*catar.Entry) {})},
		{"flags", file(map[string]string{"SCHILY.fflags": "nodump,schg"}), regular(func(e *catar.Entry) { e.Flags = feature.NoDump | feature.Immutable })},
		{"unknown flags", file(map[string]string{"SCHILY.fflags": "notail"}), lost(`file flag "notail"`)},
		{"a list of bsdtar", file(map[string]string{"SCHILY.acl.access": "user::rw-,group::r--,other::---,user:1234:r-x:1234,user:lisa:rw-:7,mask::rw-"}),
			regular(func(e *catar.Entry) { e.ACL, e.Mode = masked, e.Mode|0o020 })},
		{"a list of the kernel", file(map[string]string{"SCHILY.xattr.system.posix_acl_access": kernelACL(1, 6, none, 2, 5, 1234, 4, 4, none, 16, 6, none, 32, 0, none)}),
			regular(func(e *catar.Entry) {
				e.ACL, e.Mode = &catar.ACL{Masked: true, GroupObj: 4, Users: []catar.ACLEntry{{ID: 1234, Perm: 5}}}, e.Mode|0o020
			})},
		{"a list that is none", file(map[string]string{"SCHILY.acl.access": "user::rw-"}), lost("SCHILY.acl.access: not an access control list")},
		{"a list with somebody whom nobody knows", file(map[string]string{"SCHILY.acl.access": "user::rw-,user:no one:r--,group::r--,mask::r--,other::---"}),
			lost(`SCHILY.acl.access: "user:no one:r--": nobody here has that name`)},
		{"a default list of a file", file(map[string]string{"SCHILY.acl.default": "user::rw-,group::r--,other::---"}),
			lost("an access control list, which a node of its type has not")},
		{"a directory", tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o1777, ModTime: time.Unix(-2, 250_000_000), Uname: "root", Uid: 0, Gname: "g", Gid: 9,
			PAXRecords: map[string]string{"SCHILY.acl.default": "default:user::rwx,group::r-x,other::---"}, Format: tar.FormatPAX},
			tarball.Member{Name: "d/", Entry: catar.Entry{Mode: catar.ModeDir | 0o1777, MTime: -1_750_000_000, GID: 9, Group: "g",
				ACL: &catar.ACL{Default: &catar.DefaultACL{UserObj: 7, GroupObj: 5}}}}},
		{"a hard link", tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "/f"},
			tarball.Member{Name: "l", Hard: "/f", Entry: catar.Entry{Mode: catar.ModeRegular}}},
		{"a device", tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3},
			tarball.Member{Name: "c", Entry: catar.Entry{Mode: catar.ModeChar, Major: 1, Minor: 3}}},
		{"a device of another system", tar.Header{Typeflag: tar.TypeBlock, Name: "b", Devmajor: 5000},
			tarball.Member{Name: "b", Entry: catar.Entry{Mode: catar.ModeBlock}, Refused: "device 5000:0, of which the first has 12 bits and the second 20"}},
		{"a symbolic link to nothing", tar.Header{Typeflag: tar.TypeSymlink, Name: "s"},
			tarball.Member{Name: "s", Entry: catar.Entry{Mode: catar.ModeLink}, Refused: "a symbolic link's target of 0 bytes, not 1 to 4095"}},
		{"a fifo", tar.Header{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o4600}, tarball.Member{Name: "p", Entry: catar.Entry{Mode: catar.ModeFIFO | 0o4600}}},
		{"a time far away", tar.Header{Typeflag: tar.TypeDir, Name: "d", ModTime: time.Unix(1<<40, 0), Format: tar.FormatGNU},
			tarball.Member{Name: "d", Entry: catar.Entry{Mode: catar.ModeDir}, Refused: "a time of 1099511627776 seconds, outside of what nanoseconds count"}},
		{"an owner of more than 32 bits", tar.Header{Typeflag: tar.TypeDir, Name: "d", Uid: 1 << 33, Format: tar.FormatGNU},
			tarball.Member{Name: "d", Entry: catar.Entry{Mode: catar.ModeDir}, Refused: "owner 8589934592:0, which is no 32 bits"}},
		{"an owner who is nobody", tar.Header{Typeflag: tar.TypeDir, Name: "d", Gid: none, Format: tar.FormatGNU},
			tarball.Member{Name: "d", Entry: catar.Entry{Mode: catar.ModeDir}, Refused: "owner 0:4294967295, of which one means nobody"}},
		{"a time that is none", tar.Header{Typeflag: tar.TypeDir, Name: "d", ModTime: time.Unix(0, -1), Format: tar.FormatPAX},
			tarball.Member{Name: "d", Entry: catar.Entry{Mode: catar.ModeDir}, Refused: "a time of -1 nanosecond, which means none"}},
		{"a volume's label", tar.Header{Typeflag: 'V', Name: "v"}, tarball.Member{Name: "v", Refused: "a member of the type 'V'"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tarball.NewReader(bytes.NewReader(written(t, tt.in)), tarball.ReaderOptions{})
			got, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got\n%+v\nwant\n%+v", *got, tt.want)
			}
			if _, err := r.Next(); err != io.EOF || r.Cut() {
				t.Errorf("then %v, cut off: %v", err, r.Cut())
			}
		})
	}
}

// TestGlobalHeaders checks that what a global header says counts for all that follows
// and does not say it itself.
func TestGlobalHeaders(t *testing.T) {
	in := written(t,
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"uid": "7", "mtime": "-1.5", "SCHILY.xattr.user.g": "v", "comment": "c"}},
		file(nil),
		file(map[string]string{"mtime": "2", "SCHILY.xattr.user.g": "own"}),
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"SCHILY.xattr.user.g": ""}},
		file(nil))
	// archive/tar's own writer leaves the time out of the records that it is given.
	r := tarball.NewReader(bytes.NewReader(in), tarball.ReaderOptions{})
	for i, want := range []struct {
		mtime int64
		attrs string
	}{{-15e8, "v"}, {-15e8, "own"}, {-15e8, ""}} {
		m, err := r.Next()
		if err != nil || m.Refused != "" {
			t.Fatalf("member %d: %v, %q", i, err, m.Refused)
		}
		attrs := ""
		if len(m.XAttrs) > 0 {
			attrs = string(m.XAttrs[0].Value)
		}
		if m.UID != 7 || m.MTime != want.mtime || attrs != want.attrs {
			t.Errorf("member %d: owner %d, time %d, attribute %q", i, m.UID, m.MTime, attrs)
		}
	}
}

// pipe is a stream that can only be read in order.
func pipe(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b)) }

func TestReadBytes(t *testing.T) {
	in := written(t, file(nil), file(nil))
	for name, src := range map[string]io.Reader{"file": bytes.NewReader(in), "pipe": pipe(in)} {
		t.Run(name, func(t *testing.T) {
			r := tarball.NewReader(src, tarball.ReaderOptions{})
			for range 2 {
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
				at, off := r.At()
				if (at != nil) != (name == "file") {
					t.Fatalf("can be read later: %v", at != nil)
				}
				if at != nil {
					b := make([]byte, 3)
					if _, err := at.ReadAt(b, off); err != nil || string(b) != "xxx" {
						t.Errorf("at %d: %q, %v", off, b, err)
					}
					continue
				}
				if b, err := io.ReadAll(r); err != nil || string(b) != "xxx" {
					t.Errorf("%q, %v", b, err)
				}
			}
			if _, err := r.Next(); err != io.EOF {
				t.Error(err)
			}
		})
	}
}

// TestBrokenStreams checks what is said of streams that are cut off, or go on.
func TestBrokenStreams(t *testing.T) {
	whole := written(t, file(nil), file(map[string]string{"SCHILY.xattr.user.a": "1"}))
	tests := []struct {
		name string
		in   []byte
		err  string
		cut  bool
		more bool
	}{
		{"whole", whole, "", false, false},
		{"blocked", append(bytes.Clone(whole), make([]byte, 8192)...), "", false, false},
		{"without the end mark", whole[:len(whole)-1024], "", true, false},
		{"with half of it", whole[:len(whole)-512], "", false, false},
		{"two of them", append(bytes.Clone(whole), whole...), "", false, true},
		{"in a header", whole[:1024+100], "offset 1124: truncated", false, false},
		{"in a file", whole[:512+2], "truncated", false, false},
		{"no tar", []byte(strings.Repeat("no tar", 100)), "offset 512: invalid tar header", false, false},
		{"nothing", nil, "", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tarball.NewReader(pipe(tt.in), tarball.ReaderOptions{})
			var err error
			for err == nil {
				if _, err = r.Next(); err == nil {
					_, err = io.Copy(io.Discard, r)
				}
			}
			if err == io.EOF {
				err = nil
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q in it", err, tt.err)
				}
				return
			}
			cut := r.Cut()
			more, rest := r.Rest()
			if err != nil || rest != nil || cut != tt.cut || more != tt.more {
				t.Errorf("%v, %v; cut off: %v, more: %v", err, rest, cut, more)
			}
		})
	}
}
