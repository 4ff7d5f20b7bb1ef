package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file that has changed is another image, for an overlay or a device that wants
// the one it had. A device is the same one after the machine has started again,
// when its name is new.
func TestIdentityOfFiles(t *testing.T) {
	dir := t.TempDir()
	file, device := filepath.Join(dir, "file"), filepath.Join(dir, "device")
	if err := os.WriteFile(file, []byte("bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	same := map[string]bool{file: false}
	err := unix.Mknod(device, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) // that of /dev/null: any will do
	if f, bad := os.Open(device); bad == nil {
		f.Close()
		same[device] = true
	} else {
		t.Logf("no device, which takes root and a file system that may have some: %v, %v", err, bad)
	}
	identity := func(path string) []byte {
		img, err := openFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer img.Close()
		return img.identity()
	}
	for path, want := range same {
		before := identity(path)
		if !bytes.Equal(before, identity(path)) {
			t.Errorf("%s: another one at once", path)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Equal(before, identity(path)); got != want {
			t.Errorf("%s: the same after a change of its time: %t, want %t", path, got, want)
		}
	}
}
