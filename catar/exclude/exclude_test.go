package exclude_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/catar/exclude"
)

func read(t testing.TB, text string) exclude.Rules {
	t.Helper()
	r, err := exclude.Read(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return r
}

// kept walks down a path, whose directories end in a slash, by the rules of its
// first directory, and reports whether its last name is reached.
func kept(r exclude.Rules, path string) bool {
	for {
		name, rest, dir := strings.Cut(path, "/")
		if r.Excludes(name, dir) {
			return false
		}
		if rest == "" {
			return true
		}
		r, path = r.Below(name), rest
	}
}

func TestRules(t *testing.T) {
	tests := []struct {
		rules     string
		excludes  string // paths, one after the other
		keepsThem string
	}{
		{"", "", "a .hidden dir/ dir/a"},
		{"# a\n\n \t\n", "", "a # dir/"},
		{"a", "a a/ dir/a dir/deep/a a/b", "b ab dir/b A"},
		{"/a", "a a/ a/b", "dir/a"},
		{"//a//", "a/ a/b", "a dir/a/"},
		{"a/", "a/ a/x", "a dir/a/"},
		{"dir/a", "dir/a dir/a/b", "a dir/b x/dir/a dir/dir/a"},
		{"dir//a/", "dir/a/ dir/a/b", "dir/a"},
		{"dir/*/a", "dir/x/a dir/y/a/", "dir/a dir/.x/a dir/x/y/a dir/x/"},
		{"*.tmp", "x.tmp dir/y.tmp", ".tmp .x.tmp xtmp"},
		{".*", ".a .caexclude ..a", "a"},
		{"?", "a \xff", "ab .\x01"},
		{"*\n!b", "a dir/ c/b", "b .a"},
		{"!b\n*", "a", "b"},
		{"a\n!/dir/a", "a x/a dir/dir/a", "dir/a"},
		{"/dir\n!/dir/a", "dir/a dir/", "a"},
		{"!a/\na", "a dir/a dir/a/", "a/"},
		{"\\#x\n\\!y", "#x !y", "x y \\#x"},
		{"[ab", "[ab", "a b"},
		{"[!a]", "b \xff", "a .x"},
		{"caf\xe9", "caf\xe9", "caf\xc3\xa9"},
		{"a\r\nb", "a\r b", "a"},
		{"a\x00b\nc", "a b c", "d"},
		{"a\\", "", "a a\\"},
	}
	for _, tt := range tests {
		r := read(t, tt.rules)
		for _, path := range strings.Split(tt.excludes, " ") {
			if path != "" && kept(r, path) {
				t.Errorf("rules %q: %q is kept", tt.rules, path)
			}
		}
		for _, path := range strings.Split(tt.keepsThem, " ") {
			if path != "" && !kept(r, path) {
				t.Errorf("rules %q: %q is left out", tt.rules, path)
			}
		}
	}
}

// White space counts inside a rule, and is gone around it.
func TestRulesWithBlanks(t *testing.T) {
	r := read(t, " \ta b \t\nc\v")
	for name, want := range map[string]bool{"a b": true, "a": false, "b": false, " a b": false, "c\v": true, "c": false} {
		if got := r.Excludes(name, false); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

func TestWith(t *testing.T) {
	above := read(t, "*.o\n!keep.o\n/dir/x\n")
	below := above.Below("dir").With(read(t, "!y.o\n/z\n"))
	for name, want := range map[string]bool{"a.o": true, "keep.o": false, "x": true, "y.o": false, "z": true, "q": false} {
		if got := below.Excludes(name, false); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
	// What one directory adds must not reach its siblings.
	one, two := below.With(read(t, "one\n/one/a")), below.With(read(t, "two\n/two/a"))
	if !one.Excludes("one", true) || one.Excludes("two", true) || two.Excludes("one", true) || !two.Excludes("two", true) ||
		!two.Below("two").Excludes("a", false) || two.Below("one").Excludes("a", false) {
		t.Error("siblings share rules")
	}
	if none := (exclude.Rules{}).With(exclude.Rules{}); none.Excludes("a", true) || none.Below("a").Excludes("a", true) {
		t.Error("no rules exclude something")
	}
}

func TestReadRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"nothing", "a\n/\n", `exclude: line 2: rule "/": names nothing`},
		{"not nothing", "!", `exclude: line 1: rule "!": names nothing`},
		{"not slashes", "\n\n !// \n", `exclude: line 3: rule "!//": names nothing`},
		{"dot", "a/./b", `exclude: line 1: rule "a/./b": "." has no place in a path of names`},
		{"dots", "a\x00..", `exclude: line 2: rule "..": ".." has no place in a path of names`},
		{"long line", "\n" + strings.Repeat("x", 64<<10+1), "exclude: line 2: more than 65536 bytes"},
		{"long file", strings.Repeat("xy\n", 400_000), "exclude: more than 1048576 bytes of rules"},
		{"many rules", strings.Repeat("x\n", 10_001), "exclude: line 10001: more than 10000 rules"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := exclude.Read(strings.NewReader(tt.text)); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	if _, err := exclude.Read(iotest.ErrReader(errors.New("bad disk"))); err == nil || err.Error() != "bad disk" {
		t.Errorf("got %v", err)
	}
}

// Directories without rules, which are nearly all, cost nothing.
func TestNoRulesCostNothing(t *testing.T) {
	var r exclude.Rules
	allocs := testing.AllocsPerRun(100, func() {
		r = r.Below("dir").With(exclude.Rules{})
		if r.Excludes("name", false) {
			t.Fatal("excluded")
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// Whatever is accepted, the answers do not depend on the order of the lines,
// and a directory's rules added to themselves say the same.
func FuzzRead(f *testing.F) {
	f.Add("*.o\n!a.o\n/b/c/\n", "b/c", true)
	f.Add(" # x\n\\#\n[!a-z]*\n", "#/A/x", false)
	f.Add("a/./b", "a", false)
	f.Add("!\x00/\r\n", "", true)
	f.Fuzz(func(t *testing.T, text, path string, dir bool) {
		r, err := exclude.Read(strings.NewReader(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "exclude: ") {
				t.Errorf("error %q", err)
			}
			return
		}
		if len(text) > 4096 || len(path) > 256 {
			return // nothing new, and slow
		}
		lines := strings.FieldsFunc(text, func(c rune) bool { return c == '\n' || c == 0 })
		var backwards strings.Builder
		for i := range lines {
			backwards.WriteString(lines[len(lines)-1-i] + "\n")
		}
		other := read(t, backwards.String())
		for name := range strings.SplitSeq(path, "/") {
			got := r.Excludes(name, dir)
			if other.Excludes(name, dir) != got {
				t.Fatalf("%q: another answer about %q of the lines backwards", text, name)
			}
			if r.With(other).Excludes(name, dir) != got {
				t.Fatalf("%q: another answer about %q of the rules twice", text, name)
			}
			r, other = r.Below(name), other.Below(name)
		}
	})
}

func Example() {
	rules, err := exclude.Read(strings.NewReader("# built\n*.o\n/build/\n!crt0.o\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"main.c", "main.o", "crt0.o"} {
		fmt.Println(name, rules.Excludes(name, false))
	}
	fmt.Println("build/", rules.Excludes("build", true))
	fmt.Println("src/build/", rules.Below("src").Excludes("build", true))
	// Output:
	// main.c false
	// main.o true
	// crt0.o false
	// build/ true
	// src/build/ false
}

// A name against the rules of a usual project.
func BenchmarkExcludes(b *testing.B) {
	r := read(b, "*.o\n*.a\n*~\n.*.swp\n/build/\n/dist/\nnode_modules/\n!important.o\n/doc/*.html\n")
	b.ReportAllocs()
	for b.Loop() {
		if r.Excludes("a-usual-name.c", false) {
			b.Fatal("wrong answer")
		}
	}
}
