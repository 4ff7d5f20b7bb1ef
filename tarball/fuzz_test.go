package tarball_test

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"caravel/catar"
	"caravel/tarball"
)

// FuzzUnpack feeds packed streams of strangers, and what comes out of them to a Reader:
// nothing panics, and no more memory is taken than what is read.
func FuzzUnpack(f *testing.F) {
	plain := written(f, file(map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.acl.access": "user::rw-,group::r--,other::---"}),
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"uid": "7"}}, file(nil))
	f.Add(plain)
	for _, pack := range []func(io.Writer) (io.WriteCloser, error){
		func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
	} {
		var b bytes.Buffer
		w, err := pack(&b)
		if err == nil {
			_, err = w.Write(plain)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	one := xzOf(f, xz.CRC64, plain)
	f.Add(append(bytes.Clone(one), greedy(f, one, 0)...))
	f.Add(greedy(f, one, 1))
	f.Fuzz(func(t *testing.T, in []byte) {
		src, err := tarball.Unpack(io.MultiReader(bytes.NewReader(in)))
		if err != nil {
			return
		}
		defer src.Close()
		const most = 4 << 20 // of what is unpacked
		r := tarball.NewReader(io.LimitReader(src, most), tarball.ReaderOptions{})
		for err == nil {
			var m *tarball.Member
			if m, err = r.Next(); err == nil && m.Size < most {
				_, err = io.Copy(io.Discard, r)
			}
		}
	})
}

// FuzzMember checks that what is made of a header with any records is an entry that the
// encoder takes, or says why it is none, and that it is the same after it was written as
// a tar stream.
func FuzzMember(f *testing.F) {
	f.Add("SCHILY.xattr.user.a", "1", "SCHILY.acl.access", "user::rw-,user:7:r--:7,group::r--,mask::r--,other::---", int64(0), byte(tar.TypeReg))
	f.Add("SCHILY.acl.default", "user::rwx,group::r-x,other::---", "mtime", "-1.5", int64(1), byte(tar.TypeDir))
	f.Add("LIBARCHIVE.xattr.user.%41", "YQ", "SCHILY.fflags", "nodump,schg", int64(-1), byte(tar.TypeFifo))
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string, seconds int64, typ byte) {
		h := tar.Header{Typeflag: typ, Name: "f", Linkname: "l", ModTime: time.Unix(seconds%(1<<33), 0), PAXRecords: map[string]string{key1: value1, key2: value2}, Format: tar.FormatPAX}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if w.WriteHeader(&h) != nil || w.Close() != nil {
			return
		}
		m, err := tarball.NewReader(&b, tarball.ReaderOptions{}).Next()
		if err != nil || m.Refused != "" || m.Hard != "" {
			return
		}
		before := archiveOf(t, m)
		stream, got := asTar(t, before, tarball.WriteOptions{})
		if got.Lost.Count > 0 {
			t.Fatalf("lost %q of what came from a stream", got.Lost.First)
		}
		r := tarball.NewReader(bytes.NewReader(stream), tarball.ReaderOptions{})
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		again, err := r.Next()
		if err != nil || again.Refused != "" || len(again.Lost) > 0 {
			t.Fatalf("%v, refused %q, lost %q", err, again.Refused, again.Lost)
		}
		if !bytes.Equal(before, archiveOf(t, again)) {
			t.Fatalf("%+v\nbecame\n%+v", m.Entry, again.Entry)
		}
	})
}

// archiveOf is an archive with one node in it.
func archiveOf(t *testing.T, m *tarball.Member) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, flags)
	if err == nil {
		err = e.Begin("", &catar.Entry{Mode: catar.ModeDir | 0o755})
	}
	if err == nil {
		err = e.Begin("node", &m.Entry)
	}
	if err == nil && m.IsDir() {
		err = e.End()
	}
	if err == nil {
		err = e.End()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
