//go:build linux

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A call is a system call of a traced program. Its times are the numbers of
// the lines on which it began and ended.
type call struct {
	name       string
	args       string // with the paths behind file descriptors: 7</tmp/x>
	result     int
	begin, end int
}

// fd is the file descriptor that is the first argument, and its path.
func (c call) fd() (number, path string) {
	number, rest, _ := strings.Cut(c.args, "<")
	path, _, _ = strings.Cut(rest, ">")
	return number, path
}

// paths are the quoted arguments.
func (c call) paths() []string {
	var all []string
	for _, m := range quoted.FindAllStringSubmatch(c.args, -1) {
		all = append(all, m[1])
	}
	return all
}

func (c call) String() string {
	return fmt.Sprintf("%d-%d %s(%s) = %d", c.begin, c.end, c.name, c.args, c.result)
}

var (
	quoted    = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	traceLine = regexp.MustCompile(`^(\d+)\s+(\w+)\((.*)$`)
	resumed   = regexp.MustCompile(`^(\d+)\s+<\.\.\. (\w+) resumed>(.*)$`)
	ending    = regexp.MustCompile(`^(.*)\)\s+= (-?\d+)(?:<.*>)?(?: .*)?$`)
)

const unfinished = " <unfinished ...>"

// traced runs caravel under strace and returns the calls that wrote, synced or
// named something, in the order of their ends.
func traced(t testing.TB, args ...string) []call {
	t.Helper()
	need(t, "strace")
	out := filepath.Join(t.TempDir(), "trace")
	const watched = "trace=write,pwrite64,fsync,fdatasync,sync,syncfs,sync_file_range,msync,link,linkat,rename,renameat,renameat2"
	r := run(t, "strace", append([]string{"-f", "-y", "-s", "4096", "-e", "signal=none", "-e", watched, "-e", "abbrev=none", "-o", out, caravel}, args...)...)
	if strings.Contains(r.stderr, "PTRACE") || strings.Contains(r.stderr, "ptrace") {
		t.Skipf("strace may not trace here: %s", r.stderr)
	}
	if r.status != 0 {
		t.Fatalf("caravel %s: status %d\n%s", strings.Join(args, " "), r.status, r.stderr)
	}
	return parseTrace(t, string(read(t, out)))
}

// parseTrace puts together what strace splits where threads overlap.
func parseTrace(t testing.TB, text string) []call {
	t.Helper()
	var all []call
	open := map[string]call{} // by thread
	for i, line := range strings.Split(text, "\n") {
		thread, c, rest := "", call{begin: i}, ""
		if m := traceLine.FindStringSubmatch(line); m != nil {
			thread, c.name, rest = m[1], m[2], m[3]
			if head, ok := strings.CutSuffix(rest, unfinished); ok {
				c.args = head
				open[thread] = c
				continue
			}
		} else if m := resumed.FindStringSubmatch(line); m != nil {
			thread, rest = m[1], m[3]
			var ok bool
			if c, ok = open[thread]; !ok || c.name != m[2] {
				t.Fatalf("trace, line %d: nothing to resume: %s", i, line)
			}
			delete(open, thread)
		} else {
			continue // an exit, a signal
		}
		m := ending.FindStringSubmatch(c.args + rest)
		if m == nil {
			continue // the program ended in it: = ?
		}
		c.args, c.end = m[1], i
		c.result, _ = strconv.Atoi(m[2])
		all = append(all, c)
	}
	if len(all) == 0 {
		t.Fatalf("nothing in the trace: %q", text)
	}
	return all
}

// find returns the only call that succeeded and matches.
func find(t testing.TB, all []call, what string, match func(call) bool) call {
	t.Helper()
	found := pick(all, match)
	if len(found) != 1 {
		t.Fatalf("%d calls to %s, want 1: %v in\n%s", len(found), what, found, listing(all))
	}
	return found[0]
}

func pick(all []call, match func(call) bool) []call {
	var found []call
	for _, c := range all {
		if c.result >= 0 && match(c) {
			found = append(found, c)
		}
	}
	return found
}

func listing(all []call) string {
	var b strings.Builder
	for _, c := range all {
		if !strings.HasSuffix(c.name, "write") && !strings.HasPrefix(c.name, "pwrite") {
			fmt.Fprintln(&b, c)
		}
	}
	return b.String()
}

// inOrder checks that each call ended before the next began.
func inOrder(t testing.TB, names []string, calls ...call) {
	t.Helper()
	for i, c := range calls[1:] {
		if calls[i].end >= c.begin {
			t.Errorf("%s ends at %d, %s begins at %d before that\n%v\n%v", names[i], calls[i].end, names[i+1], c.begin, calls[i], c)
		}
	}
}

func isNaming(c call) bool {
	return strings.HasPrefix(c.name, "link") || strings.HasPrefix(c.name, "rename")
}
func isWrite(c call) bool { return c.name == "write" || c.name == "pwrite64" }
func isSync(c call) bool {
	return slices.Contains([]string{"fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"}, c.name)
}

// names reports whether c gives something the name path.
func names(path string) func(call) bool {
	return func(c call) bool {
		p := c.paths()
		return isNaming(c) && len(p) > 0 && p[len(p)-1] == path
	}
}

// syncs reports whether c is an fsync of path.
func syncs(path string) func(call) bool {
	return func(c call) bool {
		_, p := c.fd()
		return c.name == "fsync" && p == path
	}
}

// realTempDir is t.TempDir as the kernel prints it.
func realTempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
