//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"caravel/internal/testtree"
)

// TestMountTreeCompared has those compare a mount with its source who copy trees
// for people, with all that they look at.
func TestMountTreeCompared(t *testing.T) {
	p := packTree(t, caravel, func(dir string) {
		testtree.Generate(t, dir, rand.New(rand.NewPCG(80, 1)), testtree.Options{Root: os.Geteuid() == 0, Nodes: 200, Bytes: 4 << 20, Wide: 500})
		attributed(t, dir)
	})
	_, dir := mountedTree(t, p.index)
	t.Run("tar", func(t *testing.T) { sameTar(t, dir, p.source) })
	t.Run("rsync", func(t *testing.T) {
		need(t, "rsync")
		// To the source: there a file with two names may be one, which the archive does not know.
		r := run(t, "rsync", "-aHAX", "--numeric-ids", "--dry-run", "--checksum", "--itemize-changes", "--delete", dir+"/", p.source+"/")
		if r != (result{}) {
			t.Errorf("status %d, would transfer\n%.2000s%s", r.status, r.stdout, r.stderr)
		}
	})
	t.Run("find", func(t *testing.T) { counts(t, dir); sameFound(t, dir, p.source) })
}

// attributed adds files with attributes and access control lists, as programs set
// them: what testtree makes besides is what no archive keeps.
func attributed(t *testing.T, dir string) {
	t.Helper()
	need(t, "setfattr", "setfacl")
	for i := range 20 {
		path := writeFile(t, filepath.Join(dir, fmt.Sprintf("attributed-%02d", i)), []byte("text"))
		must(t, "setfattr", "-n", "user.number", "-v", fmt.Sprint(i), path)
		must(t, "setfattr", "-n", "user.empty", path)
		must(t, "setfacl", "-m", fmt.Sprintf("u:%d:rwx,g:70000:r", i+1), path)
	}
	must(t, "setfacl", "-m", "d:u:7:rwx,d:g:8:r", dir)
}

// TestMountTreeGit has git work in a mounted working copy.
func TestMountTreeGit(t *testing.T) {
	needFUSE(t)
	need(t, "git")
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com",
		"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com",
	} {
		t.Setenv(name, value)
	}
	p := packTree(t, caravel, func(dir string) {
		origin := filepath.Join(t.TempDir(), "origin")
		must(t, "git", "init", "-q", "-b", "main", origin)
		randomFiles(t, 10, 20, 3000)(origin)
		if err := os.Symlink("dir01/file03", filepath.Join(origin, "link")); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(origin, "script"), []byte("#!/bin/sh\n"))
		if err := os.Chmod(filepath.Join(origin, "script"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"add", "."}, {"commit", "-qm", "one"}} {
			must(t, "git", append([]string{"-C", origin}, args...)...)
		}
		must(t, "git", "clone", "-q", origin, dir)
	})
	_, dir := mountedTree(t, p.index)
	for _, args := range [][]string{
		{"status", "--porcelain", "--ignored"}, {"diff", "--stat", "HEAD"}, {"fsck", "--strict", "--no-progress"}, {"ls-files", "--others", "--modified", "--deleted"},
	} {
		if r := run(t, "git", append([]string{"-C", dir}, args...)...); r != (result{}) {
			t.Errorf("git %s: %+v", args, r)
		}
	}
	log := []string{"log", "--stat", "--format=fuller"}
	if got, want := must(t, "git", append([]string{"-C", dir}, log...)...), must(t, "git", append([]string{"-C", p.source}, log...)...); got != want || want == "" {
		t.Errorf("git log says\n%s\nwant\n%s", got, want)
	}
	copied := p.path("copied")
	must(t, "git", "clone", "-q", dir, copied)
	if got, want := must(t, "git", "-C", copied, "rev-parse", "HEAD^{tree}"), must(t, "git", "-C", p.source, "rev-parse", "HEAD^{tree}"); got != want {
		t.Errorf("a clone of the mount has the tree %s, want %s", got, want)
	}
}

// TestMountTreeStress has stress-ng load a mount. Most of its stressors of file
// systems (dir, dentry, stat, readahead, xattr, iomix and their kind) begin with files of
// their own and cannot run where nothing can be written; these take what is there.
func TestMountTreeStress(t *testing.T) {
	needFUSE(t)
	needRoot(t) // binds the mount where getdent looks
	need(t, "stress-ng", "unshare")
	p := packTree(t, caravel, randomFiles(t, 20, 20, 20_000))
	m, dir := mountedTree(t, "--memory=4M", p.index)
	// fstat opens and looks at all files of one folder, getdent lists /run and all below.
	seconds := fmt.Sprintf("%ds", times(2, 60))
	const bound = `mount --bind "$0" /run && cd / && exec stress-ng "$@"`
	must(t, "unshare", "--mount", "sh", "-c", bound, dir, "--temp-path", "/tmp", "--timeout", seconds,
		"--fstat", "2", "--fstat-dir", dir+"/dir03", "--getdent", "2")
	for _, name := range []string{"dir00/file00", "dir19/file19"} {
		same(t, filepath.Join(dir, name), filepath.Join(p.source, name))
	}
	if text := m.stderr.String(); text != "" {
		t.Errorf("says %q", text)
	}
}
