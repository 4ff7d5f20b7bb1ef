package exclude

import "strings"

// maxName is the longest name there is.
const maxName = 255

// A glob is the pattern of one name: what fnmatch(3) does with FNM_PERIOD in
// the C locale, in which casync runs: a byte is a character, classes hold
// ASCII, ranges go by value. What is odd about patterns that are not
// well-formed is glibc's; only a range that ends in a class, "[a-[:digit:]]",
// which POSIX forbids, it reads in two ways, and this in one.
type glob struct {
	literal string  // the name itself, if there are no tokens
	tokens  []token // nil: no wildcard
	never   bool    // nothing matches
}

// A token matches one byte, or with star any number.
type token struct {
	kind tokenKind
	b    byte
	set  *byteSet
}

type tokenKind uint8

const (
	exactly tokenKind = iota // the byte b
	anyByte
	oneOf // a byte in the set
	star
)

// A byteSet has a bit for each byte in it.
type byteSet [4]uint64

func (s *byteSet) add(b byte)      { s[b>>6] |= 1 << (b & 63) }
func (s *byteSet) has(b byte) bool { return s[b>>6]&(1<<(b&63)) != 0 }

func (s *byteSet) invert() {
	for i := range s {
		s[i] = ^s[i]
	}
}

// compile reads a pattern. Every pattern is one; some match nothing.
func compile(pattern string) glob {
	if !strings.ContainsAny(pattern, `*?[\`) {
		return glob{literal: pattern}
	}
	var tokens []token
	fixed := 0 // bytes that a name must have
	for i := 0; i < len(pattern); i++ {
		t := token{kind: exactly, b: pattern[i]}
		switch pattern[i] {
		case '*':
			if len(tokens) > 0 && tokens[len(tokens)-1].kind == star {
				continue
			}
			t.kind = star
			fixed--
		case '?':
			t.kind = anyByte
		case '\\':
			if i++; i == len(pattern) {
				return glob{never: true}
			}
			t.b = pattern[i]
		case '[':
			p := bracket{s: pattern, i: i + 1}
			switch p.parse() {
			case closed:
				t.kind, t.set = oneOf, &p.set
				i = p.i - 1
			case broken:
				return glob{never: true}
			}
		}
		tokens = append(tokens, t)
		if fixed++; fixed > maxName { // so that the time is bounded, too
			return glob{never: true}
		}
	}
	return glob{tokens: tokens}
}

// matches takes at most len(name) * len(tokens) steps: when something behind a
// star does not match, only the last star takes one byte more.
func (g *glob) matches(name string) bool {
	switch {
	case g.tokens == nil:
		return !g.never && name == g.literal
	case name != "" && name[0] == '.' && g.tokens[0].kind != exactly:
		return false // a leading dot is matched by a dot only
	}
	t, n := 0, 0
	starToken, starName := -1, 0 // behind the last star, and where it ends
	for n < len(name) {
		switch {
		case t < len(g.tokens) && g.tokens[t].kind == star:
			t++
			starToken, starName = t, n
		case t < len(g.tokens) && g.tokens[t].matches(name[n]):
			t++
			n++
		case starToken >= 0:
			starName++
			t, n = starToken, starName
		default:
			return false
		}
	}
	for t < len(g.tokens) && g.tokens[t].kind == star {
		t++
	}
	return t == len(g.tokens)
}

func (t *token) matches(b byte) bool {
	switch t.kind {
	case exactly:
		return t.b == b
	case oneOf:
		return t.set.has(b)
	}
	return true
}
