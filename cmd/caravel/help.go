package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// examples is the end of a command's Description: calls as one would type them,
// a "#" line before a call saying what it does.
func examples(lines ...string) string {
	return "Examples:\n  " + strings.Join(lines, "\n  ")
}

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Category:  self,
		Usage:     "show the commands, or one command's flags",
		ArgsUsage: "[COMMAND]",
		Description: examples(
			"caravel help",
			"caravel help version",
		),
		Action: func(c *cli.Context) error {
			switch c.NArg() {
			case 0:
				return appHelp(c.App)
			case 1:
				return commandHelp(c.App, c.Args().First())
			}
			return usagef("want one COMMAND or none, not %d", c.NArg())
		},
	}
}

// A topic is a group of commands as help shows it.
type topic struct {
	Name     string
	Commands []*cli.Command
}

const appTemplate = `caravel: {{.App.Usage}}

Usage: caravel COMMAND [FLAGS] [ARGUMENTS]
{{range .Topics}}
{{.Name}}:{{range .Commands}}
  {{printf "%-14s" .Name}}  {{.Usage}}{{end}}
{{end}}
caravel COMMAND --help shows a command's flags and examples. Flags may stand
anywhere; "--" ends them.
`

func appHelp(app *cli.App) error {
	var topics []topic
	for _, group := range groups() {
		t := topic{Name: group}
		for _, cmd := range app.VisibleCommands() {
			if cmd.Category == group {
				t.Commands = append(t.Commands, cmd)
			}
		}
		if len(t.Commands) > 0 {
			topics = append(topics, t)
		}
	}
	return render(app.Writer, appTemplate, map[string]any{"App": app, "Topics": topics})
}

const commandTemplate = `caravel {{.Command.Name}}: {{.Command.Usage}}

Usage: caravel {{.Command.Name}} [FLAGS]{{with .Command.ArgsUsage}} {{.}}{{end}}
{{with .Command.Aliases}}
Also called {{join . ", "}}.
{{end}}{{with .Text}}
{{.}}
{{end}}
Flags:{{range .Flags}}
  {{.}}{{end}}
`

func commandHelp(app *cli.App, name string) error {
	cmd := app.Command(name)
	if cmd == nil {
		return unknownCommand(app, name)
	}
	flags := append(cmd.VisibleFlags(), cli.HelpFlag)
	return render(app.Writer, commandTemplate, map[string]any{"Command": cmd, "Flags": flags, "Text": described(cmd)})
}

// described is a command's description with what it is not for, in front of the examples.
func described(cmd *cli.Command) string {
	text, calls, found := strings.Cut(cmd.Description, "Examples:\n")
	if not := instead(cmd.Name); not != "" {
		text = strings.TrimSpace(text + wrapped("When not to use it: "+not, 88))
	}
	if found {
		text += "\n\nExamples:\n" + calls
	}
	return text
}

// wrapped breaks a text into lines of at most n characters, if no word is longer.
func wrapped(text string, n int) string {
	var b strings.Builder
	at := 0
	for _, word := range strings.Fields(text) {
		switch {
		case at == 0:
		case at+1+len(word) > n:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String()
}

// render fills in a template and says if that could not be written, which
// urfave/cli's printer does not.
func render(w io.Writer, template string, data any) error {
	var text strings.Builder
	cli.HelpPrinterCustom(&text, template, data, nil)
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("help: %w", err)
	}
	return nil
}
