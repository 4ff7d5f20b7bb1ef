package inode_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// TestSameAsCasync makes archives of a folder with nodes of every sort, on every
// file system, for every feature, and compares the bytes with casync's.
func TestSameAsCasync(t *testing.T) {
	if _, err := exec.LookPath("casync"); err != nil {
		t.Skip("casync is not installed")
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			dir := filepath.Join(image(t, kind.name, kind.mib, kind.mkfs), "dir")
			must(t, os.Mkdir(dir, 0o755))
			for i, m := range makers {
				path := filepath.Join(dir, fmt.Sprintf("%02d", i))
				if !strings.Contains(m.lacks, kind.name) {
					t.Run(m.name, func(t *testing.T) { m.make(t, path) })
					free(t, path)
				}
			}
			for _, with := range feature.Names() {
				t.Run(with, func(t *testing.T) { sameAsCasync(t, dir, with) })
			}
		})
	}
}

func sameAsCasync(t *testing.T, dir, with string) {
	f, err := feature.Parse(with)
	must(t, err)
	f = (f | feature.SHA512_256).Normal()
	theirs := filepath.Join(t.TempDir(), "theirs.catar")
	out, failed := exec.Command("casync", "make", "--with="+with, "--exclude-nodump=no", "--exclude-file=no",
		theirs, dir).CombinedOutput()
	ours, err := pack(t, dir, f)
	switch {
	case f&feature.UserNames != 0 && f&feature.UIDs == 0:
		// casync writes an archive that it cannot read.
		if err == nil || !strings.Contains(err.Error(), "--with=32bit-uids") {
			t.Errorf("got %v, want it refused", err)
		}
		return
	case failed != nil:
		if err == nil {
			t.Errorf("casync refuses: %s", out)
		}
		return
	}
	must(t, err)
	want, err := os.ReadFile(theirs)
	must(t, err)
	if !bytes.Equal(ours, want) {
		t.Errorf("%d bytes differ from casync's %d at %d", len(ours), len(want), differs(ours, want))
	}
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// pack makes an archive of dir, the plain way.
func pack(t *testing.T, dir string, f feature.Flags) ([]byte, error) {
	t.Helper()
	var b bytes.Buffer
	enc, err := catar.NewEncoder(&b, f)
	must(t, err)
	p := packer{t: t, Encoder: enc, flags: f, reader: inode.NewReader(f)}
	err = p.node("", dir)
	return b.Bytes(), err
}

type packer struct {
	*catar.Encoder
	t      *testing.T
	flags  feature.Flags
	reader *inode.Reader
}

// features are those that a node of a type needs to be there at all.
var features = map[uint32]feature.Flags{
	unix.S_IFLNK: feature.Symlinks, unix.S_IFCHR: feature.DeviceNodes, unix.S_IFBLK: feature.DeviceNodes,
	unix.S_IFIFO: feature.FIFOs, unix.S_IFSOCK: feature.Sockets,
}

func (p *packer) node(name, path string) error {
	fd, st := open(p.t, path)
	if need := features[uint32(st.Mode)&unix.S_IFMT]; p.flags&need != need {
		return nil
	}
	e, err := p.reader.Entry(fd, &st)
	if err == nil {
		err = p.Begin(name, e)
	}
	if err != nil {
		return err
	}
	switch {
	case e.IsRegular():
		f, err := os.Open(path)
		must(p.t, err)
		defer f.Close()
		_, err = io.Copy(p.Encoder, f)
		return err
	case e.IsDir():
		all, err := os.ReadDir(path)
		must(p.t, err)
		for _, child := range all {
			if err := p.node(child.Name(), filepath.Join(path, child.Name())); err != nil {
				return err
			}
		}
		return p.End()
	}
	return nil
}
