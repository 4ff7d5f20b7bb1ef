package main

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"caravel/internal/nearest"
)

// A commandLine is what the user typed, sorted: urfave/cli wants the command
// first, then its flags, then the arguments, while people, casync's and desync's
// alike, write flags before, between and after all of them.
type commandLine struct {
	command string   // its name, never an alias; "" if none was found
	flags   []string // --name or --name=value, by the flag's first name
	args    []string
	help    bool // --help stood among the flags
}

// argv is the command line as urfave/cli reads it. Flags with a value are one
// word, so that no value can be taken for a flag, and "--" stands before the
// arguments for the same reason.
func (l commandLine) argv(program string) []string {
	if l.help {
		return append([]string{program, "help", "--"}, l.args...)
	}
	argv := append([]string{program, l.command}, l.flags...)
	return append(append(argv, "--"), l.args...)
}

// arrange sorts the words of a command line (without the program's name) by the
// flags that the commands of app have. The rules are getopt's: "--" ends the
// flags, "-" is an argument, -n4, -n 4, --name=v and --name v give a value, even
// one that begins with "-", -ab is -a -b, and a flag that says yes or no takes a
// value only behind "=".
//
// With an error the commandLine still says which command was meant.
func arrange(app *cli.App, words []string) (commandLine, error) {
	at := findCommand(app, words)
	if at < 0 {
		return withoutCommand(app, words)
	}
	cmd := app.Command(words[at])
	line := commandLine{command: cmd.Name}
	s := scanner{table: flagTable(cmd.Flags), line: &line}
	// "--" before the command's name ends the flags behind it too.
	rest := slices.Concat(words[:at], words[at+1:])
	if err := s.scan(rest); err != nil {
		return line, err
	}
	if line.help {
		line.flags, line.args = nil, []string{cmd.Name}
	}
	return line, nil
}

// findCommand returns the place of the command's name, or -1. It is the first
// word that names a command and before which, read with that command's flags,
// only flags and their values stand: in "--store make make" the second "make",
// in "-n gc" "gc", where -n takes no value.
func findCommand(app *cli.App, words []string) int {
	for i, word := range words {
		if cmd := app.Command(word); cmd != nil {
			s := scanner{table: flagTable(cmd.Flags), line: &commandLine{}}
			if s.scan(words[:i]) == nil && len(s.line.args) == 0 {
				return i
			}
		}
	}
	return -1
}

// withoutCommand explains a command line on which no command was found, unless
// it asks for the program's own help or version.
func withoutCommand(app *cli.App, words []string) (commandLine, error) {
	all := flagTable(app.Flags)
	for _, cmd := range app.Commands {
		maps.Copy(all, flagTable(cmd.Flags))
	}
	var line commandLine
	s := scanner{table: all, line: &line}
	err := s.scan(words)
	switch {
	case len(line.args) > 0 && app.Command(line.args[0]) != nil:
		// Another command's flag stands before this one.
		cmd := app.Command(line.args[0])
		s := scanner{table: flagTable(cmd.Flags), line: &commandLine{}}
		if err := s.scan(words); err != nil {
			return commandLine{command: cmd.Name}, err
		}
	case len(line.args) > 0:
		return commandLine{}, unknownCommand(app, line.args[0])
	case err != nil:
		return commandLine{}, err
	case line.help:
		return commandLine{help: true}, nil
	case slices.Contains(line.flags, "--version"):
		return commandLine{command: "version"}, nil
	}
	return commandLine{}, usagef("name a command")
}

// A scanner tells flags, their values and arguments apart.
type scanner struct {
	table map[string]cli.DocGenerationFlag
	line  *commandLine
}

func (s *scanner) scan(words []string) error {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		var err error
		switch {
		case word == "--":
			s.line.args = append(s.line.args, words...)
			return nil
		case word == "-" || !strings.HasPrefix(word, "-"):
			s.line.args = append(s.line.args, word)
		case strings.HasPrefix(word, "--"):
			words, err = s.long(word[2:], words)
		default:
			words, err = s.short(word[1:], words)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// long reads --name or --name=value, the value perhaps being the first word of
// rest, and returns what is left of rest.
func (s *scanner) long(word string, rest []string) ([]string, error) {
	name, value, given := strings.Cut(word, "=")
	f := s.table[name]
	switch {
	case f == nil:
		return nil, unknownFlag(name, s.table)
	case given:
		s.add(f, "="+value)
	case !f.TakesValue():
		s.add(f, "")
	case len(rest) == 0:
		return nil, usagef("%s needs a value", dashed(name))
	default:
		s.add(f, "="+rest[0])
		rest = rest[1:]
	}
	return rest, nil
}

// short reads the letters of a word like -n4 or -vk.
func (s *scanner) short(letters string, rest []string) ([]string, error) {
	for letters != "" {
		_, size := utf8.DecodeRuneInString(letters)
		name, value := letters[:size], letters[size:]
		f := s.table[name]
		if f == nil {
			return nil, unknownFlag(name, s.table)
		}
		if value != "" && (f.TakesValue() || value[0] == '=') {
			return s.long(name+"="+strings.TrimPrefix(value, "="), rest)
		}
		if f.TakesValue() {
			return s.long(name, rest)
		}
		s.add(f, "")
		letters = value
	}
	return rest, nil
}

func (s *scanner) add(f cli.DocGenerationFlag, value string) {
	name := f.Names()[0]
	if name == "help" {
		s.line.help = true
		return
	}
	s.line.flags = append(s.line.flags, "--"+name+value)
}

// flagTable lists flags by all their names, --help among them.
func flagTable(flags []cli.Flag) map[string]cli.DocGenerationFlag {
	table := map[string]cli.DocGenerationFlag{}
	for _, f := range append([]cli.Flag{cli.HelpFlag}, flags...) {
		for _, name := range f.Names() {
			table[name] = f.(cli.DocGenerationFlag)
		}
	}
	return table
}

func unknownFlag(name string, table map[string]cli.DocGenerationFlag) error {
	if meant := nearest.Word(name, slices.Collect(maps.Keys(table))); meant != "" {
		return usagef("unknown flag %q (did you mean %s?)", dashed(name), dashed(meant))
	}
	return usagef("unknown flag %q", dashed(name))
}

func unknownCommand(app *cli.App, name string) error {
	var names []string
	for _, cmd := range app.VisibleCommands() {
		names = append(names, cmd.Names()...)
	}
	if meant := nearest.Word(name, names); meant != "" {
		return usagef("unknown command %q (did you mean %s?)", name, meant)
	}
	return usagef("unknown command %q", name)
}

// dashed is a flag's name as it is typed.
func dashed(name string) string {
	if utf8.RuneCountInString(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
