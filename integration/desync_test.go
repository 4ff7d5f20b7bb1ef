//go:build linux

package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A desyncLine is an invocation in desync.txt.
type desyncLine struct{ verdict, line string }

func desyncLines(t *testing.T) (all []desyncLine) {
	t.Helper()
	for line := range strings.Lines(string(read(t, "desync.txt"))) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		verdict, rest, ok := strings.Cut(line, "\t")
		if !ok {
			t.Fatalf("desync.txt: %s: no verdict in front", line)
		}
		all = append(all, desyncLine{verdict, rest})
	}
	return all
}

// TestDesyncsUsers runs desync's invocations with caravel's name in place of its own, and
// beside that desync itself, where there is one.
func TestDesyncsUsers(t *testing.T) {
	needFUSE(t)
	need(t, "jq")
	ours, theirs := newDesyncUser(t, "caravel", caravel), (*desyncUser)(nil)
	if peer := os.Getenv("DESYNC"); peer != "" {
		theirs = newDesyncUser(t, "desync", peer)
	}
	lines := desyncLines(t)
	if len(lines) < 60 {
		t.Errorf("there are %d invocations", len(lines))
	}
	for _, l := range lines {
		got := ours.runs(t, l.line)
		if l.verdict != "differs" && (got.status == 0) != (l.verdict != "fails") {
			t.Errorf("%s\nstatus %d\n%s%s", l.line, got.status, got.stdout, got.stderr)
		}
		if theirs == nil {
			continue
		}
		want := theirs.runs(t, l.line)
		same := (got.status == 0) == (want.status == 0)
		if same == (l.verdict == "differs") || l.verdict == "same" && got.stdout != want.stdout {
			t.Errorf("%s\nstatus %d, prints\n%s%s\nbut desync's is %d, and it prints\n%s%s", l.line, got.status, got.stdout, got.stderr, want.status, want.stdout, want.stderr)
		}
	}
}

// A desyncUser has a folder with files and stores, and a program.
type desyncUser struct{ name, dir, port string }

func newDesyncUser(t *testing.T, name, program string) *desyncUser {
	t.Helper()
	u := &desyncUser{name: name, dir: shortDir(t)}
	path := func(name string) string { return filepath.Join(u.dir, name) }
	for _, dir := range []string{"bin", "store", "store256", "empty", "cached", "store3", "store4", "store5", "store6", "store7", "store8", "mnt", "tree/sub"} {
		if err := os.MkdirAll(path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, path("bin/"+name)); err != nil {
		t.Fatal(err)
	}
	random(t, path("v1"), 300_000)
	v1 := read(t, path("v1"))
	writeFile(t, path("v2"), []byte(string(v1[:150_000])+"something new"+string(v1[150_000:])))
	random(t, path("big"), 1_200_000)
	writeFile(t, path("tree/sub/file"), []byte("one\n"))
	must(t, "touch", "-d", "2020-01-01", path("tree/sub/file"), path("tree/sub"), path("tree"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.port = fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	unmountLater(t, path("mnt"))
	return u
}

// runs runs a line in the user's folder.
func (u *desyncUser) runs(t *testing.T, line string) result {
	t.Helper()
	return runWith(t, func(c *exec.Cmd) {
		c.Dir = u.dir
		c.Env = append(os.Environ(), "PATH="+u.dir+"/bin:"+os.Getenv("PATH"), "PORT="+u.port, "HOME="+u.dir, "CARAVEL_CACHE_DIR=none")
	}, "sh", "-c", strings.ReplaceAll(line, "desync ", u.name+" "))
}
