package restore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"caravel/catar/restore"
	"caravel/feature"
)

// sharing are the file systems whose files can share blocks.
var sharing = []struct {
	kind string
	size int64
	mkfs []string
}{
	{"btrfs", 128 << 20, []string{"mkfs.btrfs", "-q"}},
	{"xfs", 320 << 20, []string{"mkfs.xfs", "-q"}},
}

// TestShares: whole blocks of a file that lie in another one are shared, where what is said of
// them is true; the others are written. Where nothing can be shared all is.
func TestShares(t *testing.T) {
	for _, fs := range sharing {
		t.Run(fs.kind, func(t *testing.T) { shares(t, mounted(t, fs.kind, fs.size, fs.mkfs...), true) })
	}
	t.Run("tmpfs", func(t *testing.T) { shares(t, mounted(t, "tmpfs", 32<<20), false) })
}

func shares(t *testing.T, at string, can bool) {
	body := long(3) // blocks, and 777 bytes
	zeros := strings.Repeat("\x00", 64<<10)
	body = body[:1<<20] + zeros + body[1<<20:]
	packed := archive(t, plain, node{name: "f", body: body})
	for name, tt := range map[string]struct {
		old    string // what lies at the same offsets
		least  int64  // of bytes that are shared
		before bool   // it is the file that is replaced
	}{
		"right":         {body, int64(len(body)), false},
		"former":        {body, int64(len(body)), true},
		"former's head": {body[:2<<20] + "x" + body[2<<20+1:], 2 << 20, true},
		"other bytes":   {strings.Replace(body, body[5000:9000], strings.Repeat("y", 4000), 1), int64(len(body)) - 65<<10 - 64<<10, false},
		"no zeros":      {body[:1<<20] + strings.Repeat("z", 64<<10) + body[1<<20+64<<10:], int64(len(body)) - 64<<10, false},
		"too short":     {body[:1<<20], 1 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			dst, seed := filepath.Join(at, name), filepath.Join(at, name+".seed")
			if tt.before {
				seed = filepath.Join(dst, "f")
				mustExtract(t, archive(t, plain, node{name: "f", body: tt.old}), dst, restore.Options{})
			} else if err := os.WriteFile(seed, []byte(tt.old), 0o600); err != nil {
				t.Fatal(err)
			}
			if name == "former" {
				if err := os.Chmod(seed, 0o600); err != nil { // which is not right
					t.Fatal(err)
				}
				tt.least = 0
			}
			s := mustExtract(t, packed, dst, restore.Options{Delete: restore.KeepExtra, Share: func(off, n int64, use func(*os.File, int64, int64, int64) bool) {
				if tt.before {
					return
				}
				f, err := os.Open(seed)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				use(f, 0, off, min(n, int64(len(tt.old))))
			}})
			holds(t, dst+"/f", body)
			if can && s.Shared < tt.least || !can && s.Shared != 0 {
				t.Errorf("%+v, want %d", s, tt.least)
			}
			if found := parts(t, dst); found != nil {
				t.Errorf("left behind: %q", found)
			}
			fresh := filepath.Join(at, name+".fresh")
			mustExtract(t, packed, fresh, restore.Options{})
			alike(t, fresh, dst, plain&^feature.Times)
			if can && name == "right" {
				filefrag(t, dst+"/f")
			}
		})
	}
}

// filefrag has e2fsprogs say that blocks of the file are shared.
func filefrag(t *testing.T, file string) {
	t.Helper()
	out, err := exec.Command("filefrag", "-v", file).CombinedOutput()
	if err != nil {
		t.Skipf("filefrag: %v: %s", err, out)
	}
	if !strings.Contains(string(out), "shared") {
		t.Errorf("%s: shares nothing:\n%s", file, out)
	}
}
