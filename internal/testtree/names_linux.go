package testtree

import (
	"fmt"
	"slices"
	"strings"
)

// odd are names that programs stumble over; those that begin alike are sorted
// differently by bytes, by paths and by locale.
var odd = []string{
	"a", "a.b", "a-", "a ", "a0", "A", "ab", "a\x01", "a\xff", "b", "B", "aa",
	" ", " leading", "trailing ", "two words", "tab\there", "new\nline", "\r", "back\\slash", "\\", "#", "#hash",
	"-", "-rf", "--", "...", "..a", ".hidden", ".a.tmp", "x.tmp", "~", "!", "!not", "*", "?", "[", "[a]", "]", "{}",
	"$HOME", "`id`", "'", "\"", ";", "|", "&", "%s%n", "\x7f", "\x01", "\x1b[31m",
	"\xff", "\xff\xfe", "\xc3\x28", "caf\xe9", "café", "cafe\u0301", "日本語", "\U0001f600", "\u200b", "con", "nul.txt",
	".#temp", "default.castr", "tree.caidx", "lost+found", "proc", "sub", "src", "README", "lib", "bin", "x.o", "x.c", "x.h",
}

// lengths of names: what casync's temporary names leave room for, and around it.
var lengths = []int{100, 143, 236, 237, 238, 239, 246, 254, 255}

// name is one that the folder has not got yet, if one was found.
func (g *generator) name(f *folder) (string, bool) {
	for range 20 {
		name := g.anyName(f)
		if len(name) <= g.MaxName && !slices.Contains(f.names, name) {
			return name, true
		}
	}
	return "", false
}

func (g *generator) anyName(f *folder) string {
	switch g.rng.IntN(8) {
	case 0, 1, 2:
		return pick(g, odd)
	case 3: // close to one that is there
		if len(f.names) > 0 {
			return pick(g, f.names) + pick(g, []string{".", "-", "0", " ", "\xff", "\x01", ".b", "a", "~"})
		}
	case 4: // long
		if g.one(3) {
			return g.long()
		}
	case 5: // any bytes
		b := g.noise(int64(1 + g.rng.IntN(12)))
		for i := range b {
			if b[i] == 0 || b[i] == '/' {
				b[i] = 0x80
			}
		}
		if s := string(b); s != "." && s != ".." {
			return s
		}
	}
	return fmt.Sprintf("%c%d%s", 'a'+g.rng.IntN(6), g.rng.IntN(1000), pick(g, []string{"", "", ".txt", ".tmp", ".o", ".c"}))
}

// long is a name of a length that matters, of letters or of long runes.
func (g *generator) long() string {
	n := pick(g, lengths)
	first := string(rune('a' + g.rng.IntN(26)))
	if g.one(3) {
		return first + strings.Repeat("語", (n-1)/3) + strings.Repeat("z", (n-1)%3)
	}
	return first + strings.Repeat(string(rune('a'+g.rng.IntN(26))), n-1)
}

// target is what a symbolic link says.
func (g *generator) target(f *folder) string {
	switch g.rng.IntN(8) {
	case 0:
		return pick(g, []string{"/", "/etc/passwd", "/nowhere", "/proc/self", "//double//slash/"})
	case 1:
		return pick(g, []string{".", "..", "../..", "../../../etc/passwd", "./a", "a/../b"})
	case 2:
		return pick(g, []string{"\xff\xfe", "caf\xe9/日本語", " ", "new\nline", "a\\b", "#"})
	case 3: // as long as it may be
		n := 4095 - g.rng.IntN(3)
		return strings.Repeat("long/", n/5+1)[:n]
	case 4:
		return strings.Repeat("x", 255+g.rng.IntN(3))
	}
	if len(f.names) > 0 {
		return pick(g, f.names)
	}
	return "dangling"
}
