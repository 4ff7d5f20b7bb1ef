package exclude

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What glibc says of a pattern and a name, for patterns that are well-formed and
// for many that are not.
func TestGlobAsGlibc(t *testing.T) {
	text, err := os.ReadFile("testdata/fnmatch.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		pattern, line := unquote(t, line)
		name, line := unquote(t, line)
		g := compile(pattern)
		if got, want := g.matches(name), strings.TrimSpace(line) == "1"; got != want {
			t.Errorf("pattern %q, name %q: got %v", pattern, name, got)
		}
		cases++
	}
	if cases < 700 {
		t.Errorf("%d cases only", cases)
	}
}

// unquote takes a quoted string off the front of a line.
func unquote(t *testing.T, line string) (text, rest string) {
	line = strings.TrimLeft(line, " ")
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if text, err = strconv.Unquote(quoted); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return text, line[len(quoted):]
}

// naive is the matcher as one would write it down: exponential, and obviously
// right about stars.
func naive(tokens []token, name string) bool {
	switch {
	case len(tokens) == 0:
		return name == ""
	case tokens[0].kind == star:
		return naive(tokens[1:], name) || name != "" && naive(tokens, name[1:])
	}
	return name != "" && tokens[0].matches(name[0]) && naive(tokens[1:], name[1:])
}

func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{
		{"*.o", "a.o"}, {"a*b*c", "aXbXbc"}, {"[a-z]*[!0-9]", "ab1x"}, {"*", ".hidden"}, {".*", ".hidden"}, {`\*`, "*"},
		{"[[:alpha:]-]?", "-x"}, {"[]-a]", "^"}, {"[[.a.]-c]", "b"}, {"[", "["}, {"[!", "[!"}, {`a\`, "a"}, {"**a**", "bab"},
		{"[\x80-\xff]", "\xe9"}, {"[[:foo:]]", "f"}, {"[[=a=]b]", "a"}, {"?", "."}, {"[.]a", ".a"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if strings.Count(pattern, "*") > 6 || len(name) > 30 || name == "" {
			return // the naive way would take for ever
		}
		g := compile(pattern)
		got := g.matches(name)
		switch {
		case g.never:
			if got {
				t.Errorf("%q matches %q, and nothing should", pattern, name)
			}
		case g.tokens == nil:
			if strings.ContainsAny(pattern, `*?[\`) || got != (pattern == name) {
				t.Errorf("%q as a literal: %v for %q", pattern, got, name)
			}
		default:
			dot := name[0] == '.' && pattern[0] != '.' && pattern[0] != '\\'
			if want := naive(g.tokens, name) && !dot; got != want {
				t.Errorf("%q and %q: got %v", pattern, name, got)
			}
		}
	})
}

// A pattern whose stars would take a backtracking matcher for ever: TestManyStars
// would not end.
var stars = strings.Repeat("*a", 100) + "*b"

func TestManyStars(t *testing.T) {
	name := strings.Repeat("a", 255)
	g := compile(stars)
	if g.matches(name) || !g.matches(name[:254]+"b") {
		t.Error("wrong answer")
	}
	for _, pattern := range []string{
		strings.Repeat("*", maxLine), strings.Repeat("[", maxLine), strings.Repeat("?", maxLine), strings.Repeat("a*", maxLine/2),
		strings.Repeat("[[:alpha:]", maxLine/10), strings.Repeat("[a-[.", maxLine/5), strings.Repeat("[=", maxLine/2),
		"[" + strings.Repeat("[:alpha:]", maxLine/9), strings.Repeat("[!\\]", maxLine/4),
	} {
		g := compile(pattern)
		if got, want := g.matches(name), strings.Trim(pattern, "*") == ""; got != want {
			t.Errorf("%.20q: got %v", pattern, got)
		}
	}
}

func BenchmarkGlob(b *testing.B) {
	for _, c := range []struct {
		name, pattern, subject string
		want                   bool
	}{
		{"literal", "node_modules", "node_module", false},
		{"suffix", "*.o", "a-usual-name.c", false},
		{"class", "[[:upper:]]*_test.go", "Glob_test.go", true},
		{"stars", stars, strings.Repeat("a", 255), false},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := compile(c.pattern)
			b.ReportAllocs()
			for b.Loop() {
				if g.matches(c.subject) != c.want {
					b.Fatal("wrong answer")
				}
			}
		})
	}
}
