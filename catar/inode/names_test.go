package inode

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestRoll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	long := "crowd:x:70:" + strings.Repeat("somebody,", 100_000)
	text := `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
again:x:1:1::/:/bin/sh
daemon:x:2:2::/:/bin/sh
+nis::::::
-nis
# comment:x:3:
:x:4:
bad:x:5x:
negative:x:-1:
large:x:4294967296:
most:x:4294967294:65534::/:
short:x
` + long + "\nlast:x:9"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNames(path, filepath.Join(t.TempDir(), "none"))
	users, err := n.users()
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uint32]string{0: "root", 1: "daemon", 2: "daemon", 3: "", 4: "", 5: "", 70: "crowd", 9: "last", 4294967294: "most"} {
		if got := users.byID[id]; got != want {
			t.Errorf("%d: %q, want %q", id, got, want)
		}
	}
	for name, want := range map[string]uint32{"daemon": 1, "again": 1, "crowd": 70} {
		if got, ok := users.byName[name]; got != want || !ok {
			t.Errorf("%s: %d %v, want %d", name, got, ok, want)
		}
	}
	if len(users.byName) != 6 {
		t.Errorf("%d names: %v", len(users.byName), users.byName)
	}
	if groups, err := n.groups(); err != nil || len(groups.byID) != 0 {
		t.Errorf("a file that is not there: %v, %v", groups, err)
	}
	if _, err := newNames(t.TempDir(), path).users(); err == nil {
		t.Error("a folder was read")
	}
}

func TestNamesAtOnce(t *testing.T) {
	n := newNames("/etc/passwd", "/etc/group")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if all, err := n.users(); err != nil || all.byID[0] != "root" {
				t.Errorf("%v %v", all, err)
			}
		})
	}
	wg.Wait()
}

func TestStorable(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, "root": false, "a": true, "_apt": true, "A-b_9": true, "-a": false, "9a": false, "1000": false,
		"a.b": false, "machine$": false, "ä": false, "a b": false,
		strings.Repeat("x", 255): true, strings.Repeat("x", 256): false,
	} {
		if got := storable(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
