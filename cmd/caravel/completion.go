package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Category:  self,
		Usage:     "print what lets a shell complete commands and flags",
		ArgsUsage: "bash|zsh|fish",
		Description: `Prints a script for the shell, made of what caravel help knows: names of commands, their
flags, the words that some of these take, and else files.

` + examples(
			"caravel completion bash > /usr/share/bash-completion/completions/caravel",
			"caravel completion zsh > /usr/share/zsh/vendor-completions/_caravel",
			"caravel completion fish > ~/.config/fish/completions/caravel.fish",
			"# for this shell only",
			"source <(caravel completion bash)",
		),
		Flags: []cli.Flag{ignoredDescriptions()},
		Action: func(c *cli.Context) error {
			write := map[string]func(io.Writer, []*cli.Command) error{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Args().First()]
			if c.NArg() != 1 || write == nil {
				return usagef("want bash, zsh or fish")
			}
			return write(c.App.Writer, c.App.VisibleCommands())
		},
	}
}

// ignoredDescriptions is desync's: bash shows none, and the others always do.
func ignoredDescriptions() cli.Flag {
	f := newSwitch("no-descriptions", "", new(bool))
	f.Hidden = true
	return f
}

// flagWords are what the values of some flags are chosen from.
func flagWords(flag string) []string {
	return map[string][]string{
		"progress":    {"auto", "bar", "plain", "json", "none"},
		"compression": {"zstd", "xz", "gzip", "none"},
		"digest":      {"sha512-256", "sha256"},
		"log-level":   {"err", "warning", "info", "debug"},
		"what":        {"archive", "archive-index", "blob-index", "directory"},
		"format":      {"json", "plain"},
		"via":         {"nbd", "loop"},
		"profile":     {"auto", "none"},
	}[flag]
}

// argWords are what the first argument of some commands is chosen from.
func argWords(command string, all []*cli.Command) []string {
	switch command {
	case "help":
		return commandNames(all)
	case "completion":
		return []string{"bash", "zsh", "fish"}
	case "profile":
		return []string{"show", "merge"}
	}
	return nil
}

func commandNames(all []*cli.Command) (names []string) {
	for _, cmd := range all {
		names = append(names, cmd.Name)
	}
	return names
}

// A shownFlag is a flag as completion shows it.
type shownFlag struct {
	names []string // long before short, without dashes
	usage string   // without backticks, one line
	value bool     // it takes one
}

// shownFlags are those of a command that help shows, --help among them.
func shownFlags(cmd *cli.Command) (all []shownFlag) {
	for _, f := range append(cmd.VisibleFlags(), cli.HelpFlag) {
		d := f.(cli.DocGenerationFlag)
		s := shownFlag{usage: strings.ReplaceAll(d.GetUsage(), "`", ""), value: d.TakesValue()}
		s.names = slices.Clone(f.Names())
		slices.SortStableFunc(s.names, func(a, b string) int { return min(len(b), 2) - min(len(a), 2) })
		all = append(all, s)
	}
	return all
}

// typed are the words that flags are typed as.
func typed(flags []shownFlag, which func(shownFlag) bool) (words []string) {
	for _, f := range flags {
		if which(f) {
			for _, name := range f.names {
				words = append(words, dashed(name))
			}
		}
	}
	return words
}

const bashScript = `# bash completion for caravel
_caravel_reply() { mapfile -t COMPREPLY < <(compgen "$@"); }
_caravel_files() {
	compopt -o filenames 2>/dev/null
	_caravel_reply -f -- "$1"
}
_caravel() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= flags= valued= words= i
	COMPREPLY=()
	# "--flag=value" is three words here.
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]}
	fi
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		%[1]s) cmd=${COMP_WORDS[i]}; break ;;
		esac
	done
	case $cmd in
%[2]s	'') words='%[3]s' ;;
	esac
	if [[ $prev == -* && " $valued " == *" $prev "* ]]; then
		case $prev in
%[4]s		*) _caravel_files "$cur" ;;
		esac
		return
	fi
	if [[ $cur == -* ]]; then
		_caravel_reply -W "$flags" -- "$cur"
	elif [[ -n $words ]]; then
		_caravel_reply -W "$words" -- "$cur"
	else
		_caravel_files "$cur"
	fi
}
complete -F _caravel caravel
`

func bashCompletion(w io.Writer, all []*cli.Command) error {
	var commands, values strings.Builder
	for _, cmd := range all {
		flags := shownFlags(cmd)
		fmt.Fprintf(&commands, "\t%s) flags='%s' valued='%s'", cmd.Name,
			strings.Join(typed(flags, func(shownFlag) bool { return true }), " "),
			strings.Join(typed(flags, func(f shownFlag) bool { return f.value }), " "))
		if words := argWords(cmd.Name, all); words != nil {
			fmt.Fprintf(&commands, " words='%s'", strings.Join(words, " "))
		}
		commands.WriteString(" ;;\n")
	}
	for _, flag := range wordedFlags(all) {
		fmt.Fprintf(&values, "\t\t--%s) _caravel_reply -W '%s' -- \"$cur\" ;;\n", flag, strings.Join(flagWords(flag), " "))
	}
	names := commandNames(all)
	_, err := fmt.Fprintf(w, bashScript, strings.Join(names, "|"), commands.String(), strings.Join(names, " "), values.String())
	return err
}

// wordedFlags are the flags that have words, each once.
func wordedFlags(all []*cli.Command) (names []string) {
	for _, cmd := range all {
		for _, f := range shownFlags(cmd) {
			if name := f.names[0]; f.value && flagWords(name) != nil && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

const zshScript = `#compdef caravel
# zsh completion for caravel
_caravel() {
	local -a commands flags
	local cmd word
	commands=(
%[1]s	)
	for word in ${words[2,CURRENT-1]}; do
		if (( ${commands[(I)$word:*]} )); then
			cmd=$word
			break
		fi
	done
	case $cmd in
%[2]s	*) flags=() ;;
	esac
	if [[ -z $cmd ]]; then
		_describe command commands
		return
	fi
	_arguments -s -S $flags
}
if [[ $funcstack[1] == _caravel ]]; then
	_caravel "$@"
else
	compdef _caravel caravel
fi
`

func zshCompletion(w io.Writer, all []*cli.Command) error {
	var commands, cases strings.Builder
	for _, cmd := range all {
		fmt.Fprintf(&commands, "\t\t%s\n", zshQuoted(cmd.Name+":"+cmd.Usage))
		fmt.Fprintf(&cases, "\t%s) flags=(\n", cmd.Name)
		for _, f := range shownFlags(cmd) {
			for _, name := range f.names {
				fmt.Fprintf(&cases, "\t\t%s\n", zshQuoted(zshFlag(name, f)))
			}
		}
		rest := "_files"
		if words := argWords(cmd.Name, all); words != nil {
			rest = "(" + strings.Join(words, " ") + ")"
		}
		// The command's own name is an argument here, wherever it stands.
		fmt.Fprintf(&cases, "\t\t%s '*: :_files'\n\t) ;;\n", zshQuoted("1: :("+cmd.Name+")")+" "+zshQuoted("2: :"+rest))
	}
	_, err := fmt.Fprintf(w, zshScript, commands.String(), cases.String())
	return err
}

// zshFlag is a flag as _arguments takes it.
func zshFlag(name string, f shownFlag) string {
	explained := strings.NewReplacer("[", "(", "]", ")").Replace(f.usage)
	spec := "*" + dashed(name)
	if f.value && len(name) > 1 {
		spec += "="
	} else if f.value {
		spec += "+"
	}
	spec += "[" + explained + "]"
	if !f.value {
		return spec
	}
	if words := flagWords(f.names[0]); words != nil {
		return spec + ":value:(" + strings.Join(words, " ") + ")"
	}
	return spec + ":value:_files"
}

func fishCompletion(w io.Writer, all []*cli.Command) error {
	var b strings.Builder
	names := strings.Join(commandNames(all), " ")
	b.WriteString("# fish completion for caravel\n")
	for _, cmd := range all {
		fmt.Fprintf(&b, "complete -c caravel -n 'not __fish_seen_subcommand_from %s' -f -a %s -d %s\n", names, cmd.Name, fishQuoted(cmd.Usage))
	}
	for _, cmd := range all {
		on := "complete -c caravel -n '__fish_seen_subcommand_from " + cmd.Name + "'"
		for _, f := range shownFlags(cmd) {
			b.WriteString(on)
			for _, name := range f.names {
				if len(name) == 1 {
					b.WriteString(" -s " + name)
				} else {
					b.WriteString(" -l " + name)
				}
			}
			if words := flagWords(f.names[0]); f.value && words != nil {
				b.WriteString(" -x -a " + fishQuoted(strings.Join(words, " ")))
			} else if f.value {
				b.WriteString(" -r -F")
			}
			b.WriteString(" -d " + fishQuoted(f.usage) + "\n")
		}
		if words := argWords(cmd.Name, all); words != nil {
			fmt.Fprintf(&b, "%s -f -a %s\n", on, fishQuoted(strings.Join(words, " ")))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// zshQuoted is a word for zsh, where between single quotes all else is what it is.
func zshQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// fishQuoted is a word for fish.
func fishQuoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
