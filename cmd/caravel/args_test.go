package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// sorter has commands with every kind of flag, and flags whose meaning differs
// from command to command. The arguments and flags that reach an action are
// put into got.
func sorter(got *[]string) *cli.App {
	action := func(c *cli.Context) error {
		*got = append([]string{c.Command.Name}, c.Args().Slice()...)
		return nil
	}
	var text string
	var yes bool
	var many []string
	value := func(name string, aliases ...string) cli.Flag {
		return &cli.StringFlag{Name: name, Aliases: aliases, Destination: &text}
	}
	commands := []*cli.Command{
		{Name: "make", Aliases: []string{"mk"}, Action: action, Flags: []cli.Flag{
			newList("store", "", &many, "s"), value("concurrency", "n"),
			newSwitch("verbose", "", &yes, "v"), newSwitch("delete", "", &yes, "k"),
		}},
		{Name: "gc", Action: action, Flags: []cli.Flag{
			newList("store", "", &many, "s"), newSwitch("dry-run", "", &yes, "n"),
		}},
		versionCommand(),
		helpCommand(),
	}
	return newAppOf(commands, strings.NewReader(""), io.Discard, io.Discard)
}

func TestArrange(t *testing.T) {
	tests := []struct {
		name  string
		words string // separated by blanks
		want  string // as urfave/cli gets them
	}{
		{"arguments only", "make a b", "make -- a b"},
		{"alias of a command", "mk a", "make -- a"},
		{"flags before", "make --store x a", "make --store=x -- a"},
		{"between", "make a --store x b", "make --store=x -- a b"},
		{"after", "make a b --store x", "make --store=x -- a b"},
		{"before the command", "--store x -v make a", "make --store=x --verbose -- a"},
		{"before the command, with =", "--store=x make a", "make --store=x -- a"},
		{"order of flags", "make --store a -s b a --store=c", "make --store=a --store=b --store=c -- a"},
		{"value that names a command", "--store make make make", "make --store=make -- make"},
		{"value that looks like a flag", "make --store -v a", "make --store=-v -- a"},
		{"value that ends flags", "make -s -- a", "make --store=-- -- a"},
		{"negative number", "make -n -4 a", "make --concurrency=-4 -- a"},
		{"empty value", "make --store= a", "make --store= -- a"},
		{"value with =", "make --store=a=b", "make --store=a=b --"},
		{"attached value", "make -n4 a", "make --concurrency=4 -- a"},
		{"attached value with =", "make -n=4 a", "make --concurrency=4 -- a"},
		{"attached value before the command", "-n4 make a", "make --concurrency=4 -- a"},
		{"bundle", "make -vk a", "make --verbose --delete -- a"},
		{"bundle with a value", "make -vn4 a", "make --verbose --concurrency=4 -- a"},
		{"bundle with a value behind it", "make -vn 4 a", "make --verbose --concurrency=4 -- a"},
		{"bundle with no", "make -vk=no a", "make --verbose --delete=no -- a"},
		{"yes or no takes no word", "make --delete no", "make --delete -- no"},
		{"yes or no", "make --delete=no a", "make --delete=no -- a"},
		{"the same letter, a value", "-n 4 make a", "make --concurrency=4 -- a"},
		{"the same letter, none", "-n gc a", "gc --dry-run -- a"},
		{"the same letter, none, behind", "gc -n 4", "gc --dry-run -- 4"},
		{"end of flags", "make -- -v --store -- x", "make -- -v --store -- x"},
		{"end of flags before the command", "-- make -v", "make -- -v"},
		{"dash", "make - -s - -", "make --store=- -- - -"},
		{"argument help", "make help h", "make -- help h"},
		{"help of a command", "make a --help -s x", "help -- make"},
		{"help before a command", "-h make", "help -- make"},
		{"help of an alias", "mk -vh", "help -- make"},
		{"help of caravel", "--help", "help --"},
		{"help command", "help make", "help -- make"},
		{"version", "--version", "version --"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app := sorter(new([]string))
			line, err := arrange(app, strings.Fields(tt.words))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(line.argv("caravel"), " "); got != "caravel "+tt.want {
				t.Errorf("%s\ngot  %s\nwant caravel %s", tt.words, got, tt.want)
			}
		})
	}
}

func TestArrangeRejects(t *testing.T) {
	tests := []struct {
		words string
		want  string // the whole message
	}{
		{"", "name a command; see caravel --help"},
		{"-v --store x", "name a command; see caravel --help"},
		{"-- ", "name a command; see caravel --help"},
		{"maek x", `unknown command "maek" (did you mean make?); see caravel --help`},
		{"--store make maek", `unknown command "maek" (did you mean make?); see caravel --help`},
		{"frobnicate", `unknown command "frobnicate"; see caravel --help`},
		{"x make", `unknown command "x"; see caravel --help`},
		{"--stroe=x", `unknown flag "--stroe" (did you mean --store?); see caravel --help`},
		{"--stroe=x make", `unknown flag "--stroe" (did you mean --store?); see caravel --help`},
		{"make --stroe=x", `make: unknown flag "--stroe" (did you mean --store?); see caravel make --help`},
		{"--dry-run make", `make: unknown flag "--dry-run"; see caravel make --help`},
		{"-n make", "name a command; see caravel --help"},
		{"make --", ""},
		{"make --=x", `make: unknown flag "--"; see caravel make --help`},
		{"make -x", `make: unknown flag "-x"; see caravel make --help`},
		{"make -vx4", `make: unknown flag "-x"; see caravel make --help`},
		{"make -é", `make: unknown flag "-é"; see caravel make --help`},
		{"make a --store", `make: --store needs a value; see caravel make --help`},
		{"make a -vn", `make: -n needs a value; see caravel make --help`},
		{"gc --concurrency 4", `gc: unknown flag "--concurrency"; see caravel gc --help`},
	}
	for _, tt := range tests {
		t.Run(tt.words, func(t *testing.T) {
			line, err := arrange(sorter(new([]string)), strings.Fields(tt.words))
			got := ""
			if usage, ok := err.(*usageError); ok {
				got = usage.in(line.command)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// FuzzArrange checks that what is accepted reaches the command: no word is lost
// or doubled, the arguments keep their order, and sorting what is sorted changes
// nothing.
func FuzzArrange(f *testing.F) {
	for _, words := range []string{
		"make\na\n--store\nx", "-n\ngc", "--store\nmake\nmake", "mk\n-vn4\n--\n-v", "-vk=no\nmake\n-", "--\ngc\n-n",
		"make\n--help\nx", "--version", "make\n-s\n--\nhelp",
	} {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words := strings.Split(text, "\n")
		var ran []string
		app := sorter(&ran)
		line, err := arrange(app, words)
		if err != nil || line.help || line.command == "help" || line.command == "version" {
			return
		}
		argv := line.argv("caravel")
		again, err := arrange(app, argv[1:])
		if err != nil || !slices.Equal(again.argv("caravel"), argv) {
			t.Fatalf("%q: sorted %q, sorted again %q, %v", words, argv, again.argv("caravel"), err)
		}
		if err := app.Run(argv); err == nil && !slices.Equal(ran, append([]string{line.command}, line.args...)) {
			t.Fatalf("%q: ran %q, not %s %q", words, ran, line.command, line.args)
		}
		checkWords(t, app, words, line)
	})
}

// checkWords walks along words and crosses off what line has of them.
func checkWords(t *testing.T, app *cli.App, words []string, line commandLine) {
	t.Helper()
	args, flags, command, open := line.args, line.flags, false, true
	for i := 0; i < len(words); i++ {
		word := words[i]
		isFlag := open && strings.HasPrefix(word, "-") && word != "-"
		switch {
		case isFlag && word == "--":
			open = false
		case isFlag:
			// One flag and all that belongs to it, a bundle being several.
			s := scanner{table: flagTable(app.Command(line.command).Flags), line: &commandLine{}}
			next := words[i+1:]
			var rest []string
			var err error
			if strings.HasPrefix(word, "--") {
				rest, err = s.long(word[2:], next)
			} else {
				rest, err = s.short(word[1:], next)
			}
			n := len(s.line.flags)
			if err != nil || len(flags) < n || !slices.Equal(flags[:n], s.line.flags) {
				t.Fatalf("%q: %q is not next in %q", words, word, flags)
			}
			flags = flags[n:]
			i += len(next) - len(rest)
		case !command && app.Command(word) != nil:
			command = true
		case len(args) > 0 && args[0] == word:
			args = args[1:]
		default:
			t.Fatalf("%q: %q is not next in %q", words, word, args)
		}
	}
	if len(args) != 0 || len(flags) != 0 || !command {
		t.Fatalf("%q: made up %q and %q", words, flags, args)
	}
}
