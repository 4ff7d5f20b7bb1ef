// Package exclude reads .caexclude files and tells what they leave out of an
// archive; docs/formats.md, section 4.9.
//
// Each line is a rule, a path of shell patterns. One with a slash counts from the
// directory of its file, one without counts there and everywhere below:
//
//	# whatever was compiled
//	*.o
//	# the directory build beside this file
//	/build/
//	# kept, whatever other rules say
//	!main.o
//
// A walk asks the rules of a directory about each child, and takes along into
// a child directory those that reach into it:
//
//	rules = rules.With(own)
//	if !rules.Excludes(name, isDir) {
//		visit(child, rules.Below(name))
//	}
package exclude

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Name is the name of the files with the rules.
const Name = ".caexclude"

// The limits of a file. The one of a line is casync's; the others keep a file
// that somebody else wrote from taking all of the memory or time.
const (
	maxFile  = 1 << 20
	maxLine  = 64 << 10
	maxRules = 10_000
)

// Rules are those that count in one directory: its own file's and what it has
// from the directories above. The zero value has none and costs nothing. Rules
// are not changed once made, so they may be used by many goroutines.
type Rules struct {
	here  []rule // anchored: for the children of this directory
	below []rule // for the children, and theirs
}

// A rule is what of a line is left at one directory.
type rule struct {
	path []component // never empty; more than one: it says nothing of children but those they have
	keep bool        // a line with "!"
}

// A component matches one name.
type component struct {
	glob    glob
	dirOnly bool // a slash follows
}

func (c *component) matches(name string, dir bool) bool {
	return (dir || !c.dirOnly) && c.glob.matches(name)
}

// Read reads a .caexclude. The error names the line.
func Read(r io.Reader) (Rules, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return Rules{}, err
	}
	if len(text) > maxFile {
		return Rules{}, fmt.Errorf("exclude: more than %d bytes of rules", maxFile)
	}
	var rules Rules
	for n := 1; len(text) > 0; n++ {
		line := text
		// casync ends lines at NULs, too.
		if end := bytes.IndexAny(text, "\n\x00"); end >= 0 {
			line, text = text[:end], text[end+1:]
		} else {
			text = nil
		}
		if err := rules.add(line); err != nil {
			return Rules{}, fmt.Errorf("exclude: line %d: %w", n, err)
		}
	}
	return rules, nil
}

// add adds what a line says.
func (r *Rules) add(line []byte) error {
	if len(line) > maxLine {
		return fmt.Errorf("more than %d bytes", maxLine)
	}
	text := string(bytes.Trim(line, " \t"))
	if text == "" || text[0] == '#' {
		return nil
	}
	if len(r.here)+len(r.below) == maxRules {
		return fmt.Errorf("more than %d rules", maxRules)
	}
	rule, err := parse(text)
	if err != nil {
		return fmt.Errorf("rule %q: %w", text, err)
	}
	if strings.Contains(text, "/") {
		r.here = append(r.here, rule)
	} else {
		r.below = append(r.below, rule)
	}
	return nil
}

func parse(text string) (rule, error) {
	text, keep := strings.CutPrefix(text, "!")
	r := rule{keep: keep}
	for rest := strings.TrimLeft(text, "/"); ; {
		name, after, slash := strings.Cut(rest, "/")
		switch name {
		case "":
			return rule{}, errors.New("names nothing")
		case ".", "..":
			return rule{}, fmt.Errorf("%q has no place in a path of names", name)
		}
		r.path = append(r.path, component{compile(name), slash})
		if rest = strings.TrimLeft(after, "/"); rest == "" {
			return r, nil
		}
	}
}

// With adds the rules of a directory's own file to those from above.
func (r Rules) With(own Rules) Rules {
	return Rules{join(r.here, own.here), join(r.below, own.below)}
}

// join never writes behind a: other Rules may share its array.
func join(a, b []rule) []rule {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	return append(a[:len(a):len(a)], b...)
}

// Excludes reports whether the child name is left out; dir says that it is a
// directory. A rule that keeps it beats all others, wherever it stands.
func (r Rules) Excludes(name string, dir bool) bool {
	excluded := false
	for _, rules := range [...][]rule{r.here, r.below} {
		for i := range rules {
			rule := &rules[i]
			if len(rule.path) > 1 || excluded && !rule.keep || !rule.path[0].matches(name, dir) {
				continue
			}
			if rule.keep {
				return false
			}
			excluded = true
		}
	}
	return excluded
}

// Below are the rules that reach into the child directory name.
func (r Rules) Below(name string) Rules {
	below := Rules{below: r.below}
	for i := range r.here {
		rule := r.here[i]
		if len(rule.path) > 1 && rule.path[0].matches(name, true) {
			rule.path = rule.path[1:]
			below.here = append(below.here, rule)
		}
	}
	return below
}
