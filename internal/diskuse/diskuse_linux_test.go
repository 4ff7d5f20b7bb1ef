package diskuse_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/internal/diskuse"
)

func TestOpeners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk0")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if got := diskuse.Of(path); len(got) != 1 || got[0] != "open by "+string(comm[:len(comm)-1])+" ("+strconv.Itoa(os.Getpid())+")" {
		t.Errorf("open file: %q", got)
	}
	if got := diskuse.Of(path, int(f.Fd())); len(got) != 0 {
		t.Errorf("our own: %q", got)
	}
}

func TestClaim(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk0")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := path + ": in use: open by "
	var used *diskuse.InUseError
	if _, err := diskuse.Claim(path); !errors.As(err, &used) || !strings.HasPrefix(err.Error(), want) || used.Path != path {
		t.Errorf("open: %v", err)
	}
	fd, err := diskuse.Claim(path, int(f.Fd()))
	if err != nil {
		t.Fatalf("our own: %v", err)
	}
	unix.Close(fd)
	if err := diskuse.Free(path); !errors.As(err, &used) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("free: %v", err)
	}
	if err := diskuse.Free(path, 1, os.Getpid()); err != nil {
		t.Errorf("open by those who serve it: %v", err)
	}
	if _, err := diskuse.Claim(path + "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if got := (&diskuse.InUseError{Path: "/dev/x"}).Error(); got != "/dev/x: in use: by an unknown user" {
		t.Error(got)
	}
}
