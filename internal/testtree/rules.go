package testtree

import (
	"math/rand/v2"
	"strings"
)

// Rules returns a .caexclude whose rules are made from paths relative to its
// directory, so that they hit some. All of them are valid.
func Rules(rng *rand.Rand, paths []string) []byte {
	var b strings.Builder
	for range 1 + rng.IntN(5) {
		switch rng.IntN(10) {
		case 0:
			b.WriteString("# a comment\n")
		case 1:
			b.WriteString(" \t\n\n")
		case 2:
			b.WriteString([]string{"*.tmp\n", "*~\n", ".*\n", "[[:upper:]]*\n", "/*/*.c\n", "!*.h\n", "?\n", "*[!a-z.]*\n"}[rng.IntN(8)])
		default:
			if len(paths) > 0 {
				b.WriteString(rule(rng, paths[rng.IntN(len(paths))]) + "\n")
			}
		}
	}
	if rng.IntN(4) == 0 {
		return []byte(strings.TrimSuffix(b.String(), "\n"))
	}
	return []byte(b.String())
}

// rule is a line that hits path, or nearly.
func rule(rng *rand.Rand, path string) string {
	names := strings.Split(path, "/")
	if rng.IntN(4) == 0 {
		names = names[len(names)-1:]
	}
	for i, name := range names {
		names[i] = pattern(rng, name)
	}
	line := strings.Join(names, []string{"/", "/", "/", "//"}[rng.IntN(4)])
	if rng.IntN(3) == 0 {
		line = "/" + line
	}
	if rng.IntN(4) == 0 {
		line += "/"
	}
	if rng.IntN(5) == 0 {
		line = "!" + line
	}
	return strings.Repeat(" ", rng.IntN(2)) + line + strings.Repeat("\t", rng.IntN(2))
}

// pattern is one that matches name, or nearly.
func pattern(rng *rand.Rand, name string) string {
	from, to := 0, len(name)
	star := rng.IntN(6)
	switch star {
	case 0:
		from = rng.IntN(len(name))
	case 1:
		to = rng.IntN(len(name))
	}
	var b strings.Builder
	if star == 0 {
		b.WriteByte('*')
	}
	for i := from; i < to; i++ {
		b.WriteString(element(rng, name[i]))
	}
	if star == 1 {
		b.WriteByte('*')
	}
	return b.String()
}

// element matches the byte c, mostly.
func element(rng *rand.Rand, c byte) string {
	switch {
	case strings.IndexByte(" \t\n", c) >= 0:
		return "?" // a line may neither end with it nor hold it
	case strings.IndexByte(`*?[]\!#`, c) >= 0:
		return `\` + string([]byte{c})
	case c == '.' || rng.IntN(8) > 0:
		return string([]byte{c})
	}
	switch rng.IntN(6) {
	case 0:
		return "?"
	case 1:
		return "[" + string([]byte{c}) + "x]"
	case 2:
		return "[!x]"
	case 3:
		return "[\x01-" + string([]byte{max(c, 1)}) + "]"
	case 4:
		return []string{"[[:alnum:]]", "[[:print:]]", "[^[:space:]]", "[[:punct:]_a-c]"}[rng.IntN(4)]
	}
	return "*"
}
