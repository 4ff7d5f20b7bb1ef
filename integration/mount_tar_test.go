//go:build linux

package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A tarStream is what tar packs of a folder.
type tarStream struct {
	*tar.Reader
	cmd  *exec.Cmd
	said bytes.Buffer
}

// tarred has tar pack a folder. Of an entry's other links an archive knows nothing,
// nor of its other times.
func tarred(t *testing.T, dir string) *tarStream {
	t.Helper()
	s := &tarStream{cmd: exec.Command("tar", "-C", dir, "--format=posix", "--pax-option=delete=atime,delete=ctime",
		"--sort=name", "--numeric-owner", "--hard-dereference", "--acls", "--xattrs", "--xattrs-include=*", "-cf", "-", ".")}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.Reader, s.cmd.Stderr = tar.NewReader(out), &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it has ended if nothing was wrong
		_ = s.cmd.Wait()
	})
	return s
}

// sameTar has tar pack two trees: names, types, modes, owners, times, targets, bytes,
// attributes and access control lists are the same. What tar has no word for, sockets
// among it, it leaves out, and says so of both.
func sameTar(t *testing.T, got, want string) {
	t.Helper()
	need(t, "tar")
	a, b := tarred(t, got), tarred(t, want)
	for n := 0; ; n++ {
		one, err := a.entry()
		other, errOther := b.entry()
		if err == io.EOF && errOther == io.EOF && n > 0 {
			break
		}
		if err != nil || errOther != nil {
			t.Fatalf("after %d entries: %v in the one and %v in the other\n%s%s", n, err, errOther, a.said.String(), b.said.String())
		}
		if one != other {
			t.Errorf("entry %d: tar packs\n%s\nwant\n%s", n, one, other)
		}
	}
	if err := errors.Join(a.cmd.Wait(), b.cmd.Wait()); err != nil || a.said.String() != b.said.String() {
		t.Errorf("tar says %q, want %q; %v", a.said.String(), b.said.String(), err)
	}
}

// entry is all of the next one in a line, with a digest of its bytes.
func (s *tarStream) entry() (string, error) {
	h, err := s.Next()
	if err != nil {
		return "", err
	}
	sum := sha512.New()
	if _, err := io.Copy(sum, s.Reader); err != nil {
		return "", err
	}
	// What is in the header, too; of lists their text, as the order of their entries differs.
	maps.DeleteFunc(h.PAXRecords, func(key, _ string) bool {
		return key == "path" || key == "linkpath" || key == "mtime" || strings.HasPrefix(key, "SCHILY.xattr.system.posix_acl_")
	})
	return fmt.Sprintf("%c %q -> %q %o %d:%d %v %d,%d %d bytes %.8x %q", h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid,
		h.ModTime.UTC().Format(time.RFC3339Nano), h.Devmajor, h.Devminor, h.Size, sum.Sum(nil), h.PAXRecords), nil
}
