//go:build linux

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completed is what a line becomes, or one of the words that are offered for its last.
var completed = []struct{ line, word string }{
	{"caravel inf", "info"},
	{"caravel --progress none ext", "extract"},
	{"caravel help prof", "profile"},
	{"caravel completion fi", "fish"},
	{"caravel chunk --star", "--start"},
	{"caravel chunk --progress ba", "bar"},
	{"caravel info -c onl", "only.caibx"},
	{"caravel info onl", "only.caibx"},
	{"caravel info two", "two words.caibx"},
}

// TestCompletion has the shells themselves complete lines.
func TestCompletion(t *testing.T) {
	shells := map[string]string{ // scripts that print a line of words between tabs for each of their arguments but the first
		"bash": `source "$1"; shift
for line; do COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _caravel; printf '%s\t' "${COMPREPLY[@]}"; echo; done`,
		"fish": `source $argv[1]
for line in $argv[2..]; string join -- \t (complete -C $line | string replace -r '\t.*' '' | string unescape); end; true`,
		"zsh": `zmodload zsh/zpty
zpty z "TERM=dumb zsh -f -i"
zpty -w z "PS1=; PROMPT_EOL_MARK=; setopt nobeep; autoload -U compinit; compinit -u -D; source ${(q)1}"
zpty -w z 'show() { print -r -- "<$BUFFER>"; BUFFER=; zle accept-line }; zle -N show; bindkey "^X" show; bindkey "^I" complete-word; echo rea""dy'
while zpty -r z line; do [[ $line == *ready* ]] && break; done
for typed in "${@[2,-1]}"; do
	zpty -w -n z "$typed"$'\t\x18'
	while zpty -r z line; do [[ $line == *"<"*">"* ]] && break; done
	line=${${line##*<}%%>*}
	print -r -- ${${line% }##* }$'\t'${${line%=}##* }$'\t'${(Q)${${line% }#caravel info }}
done`,
	}
	for shell, script := range shells {
		t.Run(shell, func(t *testing.T) {
			need(t, shell)
			dir := t.TempDir()
			file := filepath.Join(dir, "completion")
			writeFile(t, file, []byte(must(t, caravel, "completion", shell)))
			writeFile(t, filepath.Join(dir, "only.caibx"), nil)
			writeFile(t, filepath.Join(dir, "two words.caibx"), nil)
			args := []string{"-c", script, shell, file}
			if shell == "fish" {
				args = []string{"--no-config", "-c", script, file}
			}
			for _, tt := range completed {
				args = append(args, tt.line)
			}
			got := runWith(t, func(c *exec.Cmd) {
				c.Dir = dir
				c.Env = append(os.Environ(), "HOME="+dir)
			}, shell, args...)
			lines := strings.Split(got.stdout, "\n")
			if got.status != 0 || len(lines) != len(completed)+1 {
				t.Fatalf("status %d\n%s%s", got.status, got.stdout, got.stderr)
			}
			for i, tt := range completed {
				if !slices.Contains(strings.Split(lines[i], "\t"), tt.word) {
					t.Errorf("%s: %q, not %s", tt.line, lines[i], tt.word)
				}
			}
		})
	}
}

// TestManPages has man and mandoc find nothing to say about any page.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	must(t, caravel, "manpage", dir)
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 30 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	if one := must(t, caravel, "manpage", "make"); one != string(read(t, filepath.Join(dir, "caravel-make.1"))) {
		t.Error("the page of make is another one alone")
	}
	complaint(t, run(t, caravel, "manpage", filepath.Join(dir, "none")), "neither a command nor a directory")
	for _, page := range pages {
		text := string(read(t, page))
		for _, section := range []string{"NAME", "SYNOPSIS", "FLAGS", "EXAMPLES", "WHEN NOT TO USE IT"} {
			whole := filepath.Base(page) == "caravel.1"
			if !strings.Contains(text, `.SH "`+section+"\"\n") && !(whole && (section == "EXAMPLES" || section == "WHEN NOT TO USE IT")) {
				t.Errorf("%s has no %s", page, section)
			}
		}
	}
	t.Run("mandoc", func(t *testing.T) {
		need(t, "mandoc")
		if r := run(t, "mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...); r.status != 0 || r.stdout+r.stderr != "" {
			t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
	})
	t.Run("man", func(t *testing.T) {
		need(t, "man", "groff")
		for _, page := range pages {
			locale := func(c *exec.Cmd) { c.Env = append(os.Environ(), "LC_ALL=C.UTF-8") }
			r := runWith(t, locale, "man", "--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l", page)
			if r.status != 0 || r.stderr != "" {
				t.Errorf("%s: status %d, %s", page, r.status, r.stderr)
			}
		}
	})
}
