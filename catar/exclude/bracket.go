package exclude

import "strings"

// A bracket is the reading of a bracket expression: "[a-z]", "[!.]",
// "[[:alpha:]_]".
type bracket struct {
	s    string
	i    int // behind the opening bracket; after parse, behind the closing one
	set  byteSet
	dead bool // glibc gives up at a class that it does not know: nothing more matches
}

type ending uint8

const (
	closed ending = iota
	open          // no closing bracket: the opening one stands for itself
	broken        // no name matches
)

// parse reads elements up to the closing bracket. The first one may be "]".
func (p *bracket) parse() ending {
	negative := p.i < len(p.s) && (p.s[p.i] == '!' || p.s[p.i] == '^')
	if negative {
		p.i++
	}
	for first := true; ; first = false {
		if p.i == len(p.s) {
			return p.unclosed(p.dead)
		}
		if p.s[p.i] == ']' && !first {
			p.i++
			break
		}
		if p.class() || p.equivalence() {
			continue
		}
		if end := p.element(); end != closed {
			return end
		}
	}
	switch {
	case negative && p.dead:
		p.set = byteSet{}
	case negative:
		p.set.invert()
	}
	return closed
}

// unclosed is what there is at the end of a pattern. glibc notices that there
// is no closing bracket after a byte has matched, or else when it has read to
// the end without giving up on the way.
func (p *bracket) unclosed(gaveUp bool) ending {
	if gaveUp && !p.set.has('[') {
		return broken
	}
	return open
}

func (p *bracket) add(lo, hi byte) {
	for b := int(lo); b <= int(hi) && !p.dead; b++ {
		p.set.add(byte(b))
	}
}

// class reads "[:name:]". What only begins like one is elements.
func (p *bracket) class() bool {
	rest, ok := strings.CutPrefix(p.s[p.i:], "[:")
	if !ok {
		return false
	}
	end := 0
	for end < len(rest) && 'a' <= rest[end] && rest[end] < 'z' { // no class has a z
		end++
	}
	if !strings.HasPrefix(rest[end:], ":]") {
		return false
	}
	p.i += len("[:") + end + len(":]")
	is, known := classes[rest[:end]]
	if !known {
		p.dead = true
	}
	for b := byte(0); known && b < 0x80; b++ {
		if is(b) {
			p.add(b, b)
		}
	}
	return true
}

// equivalence reads "[=a=]", which in the C locale is "a".
func (p *bracket) equivalence() bool {
	rest := p.s[p.i:]
	if len(rest) < 5 || rest[:2] != "[=" || rest[3:5] != "=]" {
		return false
	}
	p.add(rest[2], rest[2])
	p.i += 5
	return true
}

// element reads a character or a range of them.
func (p *bracket) element() ending {
	symbol := strings.HasPrefix(p.s[p.i:], "[.")
	lo, ok := p.char()
	if !ok {
		return broken
	}
	rest := p.s[p.i:]
	switch {
	case rest == "" || rest[0] != '-':
		p.add(lo, lo)
		return closed
	case rest == "-":
		p.add(lo, lo)
		return p.unclosed(true)
	case rest[1] == ']': // the "-" is an element
		if !symbol { // glibc's oversight
			p.add(lo, lo)
		}
		return closed
	}
	p.i++
	hi, ok := p.char()
	if !ok {
		return broken
	}
	p.add(lo, hi)
	return closed
}

// char reads one end of a range: a byte, an escaped one, or "[.a.]".
func (p *bracket) char() (byte, bool) {
	rest := p.s[p.i:]
	switch {
	case rest == "" || rest == `\`:
		return 0, false
	case rest[0] == '\\':
		p.i += 2
		return rest[1], true
	case strings.HasPrefix(rest, "[."):
		return p.symbol(rest[2:])
	}
	p.i++
	return rest[0], true
}

// symbol reads a collating symbol behind its "[."; the C locale has those of
// one character.
func (p *bracket) symbol(rest string) (byte, bool) {
	end := strings.Index(rest, ".]")
	if end < 0 {
		return 0, false
	}
	p.i += len("[.") + end + len(".]")
	if end != 1 {
		p.dead = true
		return 0, true
	}
	return rest[0], true
}

// classes are those of ctype.h for ASCII.
var classes = map[string]func(byte) bool{
	"upper":  func(b byte) bool { return 'A' <= b && b <= 'Z' },
	"lower":  func(b byte) bool { return 'a' <= b && b <= 'z' },
	"alpha":  isAlpha,
	"digit":  isDigit,
	"alnum":  func(b byte) bool { return isAlpha(b) || isDigit(b) },
	"xdigit": func(b byte) bool { return isDigit(b) || 'a' <= b|0x20 && b|0x20 <= 'f' },
	"blank":  func(b byte) bool { return b == ' ' || b == '\t' },
	"space":  func(b byte) bool { return b == ' ' || '\t' <= b && b <= '\r' },
	"cntrl":  func(b byte) bool { return b < ' ' || b == 0x7f },
	"graph":  isGraph,
	"print":  func(b byte) bool { return b == ' ' || isGraph(b) },
	"punct":  func(b byte) bool { return isGraph(b) && !isAlpha(b) && !isDigit(b) },
}

func isAlpha(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }
func isDigit(b byte) bool { return '0' <= b && b <= '9' }
func isGraph(b byte) bool { return '!' <= b && b <= '~' }
