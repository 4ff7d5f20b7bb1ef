package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/store/local"
)

type manpageOptions struct {
	section, source, manual, title string
}

func manpageCommand() *cli.Command {
	var opt manpageOptions
	return &cli.Command{
		Name:      "manpage",
		Category:  self,
		Usage:     "print the manual page of caravel or of a command, or write all of them",
		ArgsUsage: "[COMMAND|DIR]",
		Description: `Without an argument prints caravel(1), with the name of a COMMAND its page; into a
directory DIR that is there it writes all of them, caravel.1, caravel-make.1 and so on.
They are made of what caravel help knows.

` + examples(
			"caravel manpage make | man -l -",
			"caravel manpage /usr/local/share/man/man1",
		),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "section", Usage: "say that the pages are of section `N`", Value: "1", Destination: &opt.section},
			&cli.StringFlag{Name: "source", Usage: "say that the pages come from `WHAT`", DefaultText: "caravel and its version", Destination: &opt.source},
			&cli.StringFlag{Name: "manual", Usage: "call the manual `NAME`", Value: "caravel", Destination: &opt.manual},
			&cli.StringFlag{Name: "title", Usage: "call pages `TITLE`", DefaultText: "caravel, or caravel-COMMAND", Destination: &opt.title},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("want a COMMAND, a directory or nothing, not %d arguments", c.NArg())
			}
			if opt.source == "" {
				opt.source = "caravel " + thisBuild().Version
			}
			arg := c.Args().First()
			if cmd := c.App.Command(arg); cmd != nil {
				_, err := io.WriteString(c.App.Writer, opt.command(c.App, cmd))
				return err
			}
			if arg == "" {
				_, err := io.WriteString(c.App.Writer, opt.program(c.App))
				return err
			}
			return opt.all(c.Context, c.App, arg)
		},
	}
}

// all writes all pages into a directory.
func (o manpageOptions) all(ctx context.Context, app *cli.App, dir string) error {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("%s: is neither a command nor a directory", dir)
	}
	put := func(name, page string) error {
		return putFile(ctx, filepath.Join(dir, name+"."+o.section), strings.NewReader(page), local.Options{})
	}
	if err := put("caravel", o.program(app)); err != nil {
		return err
	}
	for _, cmd := range app.VisibleCommands() {
		if err := put("caravel-"+cmd.Name, o.command(app, cmd)); err != nil {
			return err
		}
	}
	return nil
}

// program is the page of caravel.
func (o manpageOptions) program(app *cli.App) string {
	p := o.begin("caravel", app.Usage)
	p.section("SYNOPSIS")
	p.text("caravel COMMAND [FLAGS] [ARGUMENTS]")
	for _, group := range groups() {
		p.section(strings.ToUpper(group))
		for _, cmd := range app.VisibleCommands() {
			if cmd.Category == group {
				p.item(bold("caravel-"+cmd.Name)+"("+o.section+")", cmd.Usage)
			}
		}
	}
	p.section("FLAGS")
	p.text("Flags may stand before, between and after arguments, and before the command; \"--\" ends them. caravel COMMAND --help shows those of a command.")
	p.status()
	return p.String()
}

// command is the page of a command.
func (o manpageOptions) command(app *cli.App, cmd *cli.Command) string {
	p := o.begin("caravel-"+cmd.Name, cmd.Usage)
	p.section("SYNOPSIS")
	p.text(strings.TrimSpace("caravel " + cmd.Name + " [FLAGS] " + cmd.ArgsUsage))
	text, calls, _ := strings.Cut(cmd.Description, "Examples:\n")
	if text = strings.TrimSpace(text); text != "" {
		p.section("DESCRIPTION")
		p.paragraphs(text)
	}
	p.section("FLAGS")
	for _, f := range append(cmd.VisibleFlags(), cli.HelpFlag) {
		names, usage, _ := strings.Cut(f.String(), "\t")
		p.item(bold(names), usage)
	}
	p.section("WHEN NOT TO USE IT")
	p.text(instead(cmd.Name))
	p.status()
	p.section("EXAMPLES")
	p.verbatim(calls)
	p.section("SEE ALSO")
	p.line(bold("caravel") + "(" + o.section + ")")
	return p.String()
}

// A manPage is a page in the language of man(7).
type manPage struct{ strings.Builder }

func (o manpageOptions) begin(name, usage string) *manPage {
	p := &manPage{}
	title := name
	if o.title != "" {
		title = o.title
	}
	p.line(fmt.Sprintf(".TH %s %s %s %s %s", quoted(strings.ToUpper(title)), quoted(o.section), `"`+buildDate()+`"`, quoted(o.source), quoted(o.manual)))
	p.section("NAME")
	p.line(roff(name) + ` \- ` + roff(usage))
	return p
}

// buildDate is the day of what was built, or of today where nobody knows.
func buildDate() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				return s.Value[:min(len(s.Value), len(time.DateOnly))]
			}
		}
	}
	return time.Now().UTC().Format(time.DateOnly)
}

func (p *manPage) line(s string)       { p.WriteString(s + "\n") }
func (p *manPage) section(name string) { p.line(".SH " + quoted(name)) }

// text is filled.
func (p *manPage) text(s string) {
	for line := range strings.Lines(s) {
		p.line(roff(strings.TrimSpace(line)))
	}
}

// item is a word and what it means.
func (p *manPage) item(tag, text string) {
	p.line(".TP\n" + tag)
	p.text(strings.TrimSpace(text))
}

// paragraphs are parted by empty lines; what is indented stands as it is.
func (p *manPage) paragraphs(s string) {
	for i, para := range strings.Split(s, "\n\n") {
		if i > 0 {
			p.line(".PP")
		}
		if strings.HasPrefix(para, " ") {
			p.verbatim(para)
		} else {
			p.text(para)
		}
	}
}

func (p *manPage) verbatim(s string) {
	p.line(".nf")
	for line := range strings.Lines(strings.Trim(s, "\n")) {
		p.line(roff(strings.TrimRight(strings.TrimPrefix(line, "  "), "\n ")))
	}
	p.line(".fi")
}

func (p *manPage) status() {
	p.section("EXIT STATUS")
	p.text("0: all is done. 1: it failed, or was interrupted. 2: it was called in a wrong way. What shows an image until it is told to end (a mount, a device, a server) then ends with 0.")
}

var roffSpecial = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "…", `\[u2026]`)

// roff is text that means nothing else.
func roff(s string) string {
	s = roffSpecial.Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

func bold(s string) string { return `\fB` + roff(s) + `\fR` }

// quoted is an argument of a macro.
func quoted(s string) string { return `"` + strings.ReplaceAll(roff(s), `"`, `\(dq`) + `"` }
