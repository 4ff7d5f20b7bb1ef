package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// caravel runs the real app.
func caravel(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), newApp(strings.NewReader(""), &out, &errs), args)
	return out.String(), errs.String(), status
}

func TestExitStatus(t *testing.T) {
	tests := []struct {
		args   string
		status int
		stdout string // in it
		stderr string // all of it
	}{
		{"version", exitDone, "caravel ", ""},
		{"--version", exitDone, "caravel ", ""},
		{"--json version", exitDone, `"go":"go`, ""},
		{"version --help", exitDone, "Usage: caravel version [FLAGS]\n", ""},
		{"-h", exitDone, "\n  version", ""},
		{"help", exitDone, "caravel itself:\n", ""},
		{"help version", exitDone, "  caravel version --json\n", ""},
		{"", exitUsage, "", "caravel: name a command; see caravel --help\n"},
		{"verison", exitUsage, "", "caravel: unknown command \"verison\" (did you mean version?); see caravel --help\n"},
		{"help verison", exitUsage, "", "caravel: help: unknown command \"verison\" (did you mean version?); see caravel help --help\n"},
		{"help a b", exitUsage, "", "caravel: help: want one COMMAND or none, not 2; see caravel help --help\n"},
		{"version --jsno", exitUsage, "", "caravel: version: unknown flag \"--jsno\" (did you mean --json?); see caravel version --help\n"},
		{"extract", exitUsage, "", "caravel: extract: want IMAGE and perhaps TO and PATH, not 0 arguments; see caravel extract --help\n"},
		{"list-chunks --digest=sha256 --what=blob-index -", exitFailed, "", "caravel: -: index: offset 0: truncated in the header\n"},
		{"extract --what=blob - -", exitUsage, "", "caravel: extract: invalid value \"blob\" for --what: want archive, archive-index or blob-index; see caravel extract --help\n"},
		{"version h", exitUsage, "", "caravel: version: want no arguments, not 1; see caravel version --help\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			stdout, stderr, status := caravel(t, strings.Fields(tt.args)...)
			if status != tt.status || !strings.Contains(stdout, tt.stdout) || (stdout == "") != (tt.stdout == "") || stderr != tt.stderr {
				t.Errorf("exit status %d\nstdout %s\nstderr %s", status, stdout, stderr)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	tests := []struct {
		name   string
		ctx    context.Context
		err    error
		status int
		want   string
	}{
		{"none", t.Context(), nil, exitDone, ""},
		{"none, interrupted", ended, nil, exitDone, ""},
		{"one", t.Context(), errors.New("disk full"), exitFailed, "caravel: disk full\n"},
		{"several", t.Context(), errors.Join(errors.New("one"), errors.New("two\r\nthree\n")), exitFailed, "caravel: one; two; three\n"},
		{"usage", t.Context(), usagef("want %s", "IMAGE"), exitUsage, "caravel: try: want IMAGE; see caravel try --help\n"},
		{"exit status of urfave/cli", t.Context(), cli.Exit("no", 7), exitFailed, "caravel: no\n"},
		{"interrupted", ended, context.Canceled, exitFailed, "caravel: interrupted\n"},
		{"cancelled by itself", t.Context(), context.Canceled, exitFailed, "caravel: context canceled\n"},
		{"another error when interrupted", ended, io.ErrUnexpectedEOF, exitFailed, "caravel: unexpected EOF\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := &cli.Command{Name: "try", Action: func(*cli.Context) error { return tt.err }}
			var out, errs bytes.Buffer
			app := newAppOf([]*cli.Command{cmd}, strings.NewReader(""), &out, &errs)
			if status := run(tt.ctx, app, []string{"try"}); status != tt.status || errs.String() != tt.want || out.Len() != 0 {
				t.Errorf("exit status %d, %s%s", status, errs.String(), out.String())
			}
		})
	}
}

func TestContextReachesCommand(t *testing.T) {
	type key struct{}
	var got any
	cmd := &cli.Command{Name: "try", Action: func(c *cli.Context) error { got = c.Context.Value(key{}); return nil }}
	app := newAppOf([]*cli.Command{cmd}, strings.NewReader(""), io.Discard, io.Discard)
	run(context.WithValue(t.Context(), key{}, "life"), app, []string{"try"})
	if got != "life" {
		t.Errorf("got %v", got)
	}
}

// TestCommandsKeepTheRules is about every command, those to come too.
func TestCommandsKeepTheRules(t *testing.T) {
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	takesValue := map[string]bool{}
	for _, cmd := range app.Commands {
		if !slices.Contains(groups(), cmd.Category) {
			t.Errorf("%s: no group %q", cmd.Name, cmd.Category)
		}
		if len(cmd.Subcommands) > 0 {
			t.Errorf("%s: arguments would be taken for the commands below it", cmd.Name)
		}
		if cmd.Usage == "" || !cmd.Hidden && !strings.Contains(cmd.Description, "Examples:\n  ") {
			t.Errorf("%s: no usage or no examples", cmd.Name)
		}
		if not := instead(cmd.Name); !cmd.Hidden && (not == "" || !strings.HasSuffix(not, ".")) {
			t.Errorf("%s: does not say when not to use it", cmd.Name)
		}
		seen := map[string]bool{"help": true, "h": true}
		for _, f := range cmd.Flags {
			for _, name := range f.Names() {
				if seen[name] {
					t.Errorf("%s: two flags are called %s", cmd.Name, name)
				}
				seen[name] = true
			}
			checkFlag(t, cmd.Name, f, takesValue)
		}
	}
}

// checkFlag refuses the kinds of flags that do not do what people expect, and
// long names that take a value here and none there: before a command's name
// nobody could tell.
func checkFlag(t *testing.T, command string, f cli.Flag, takesValue map[string]bool) {
	t.Helper()
	name := f.Names()[0]
	switch f := f.(type) {
	case *cli.BoolFlag:
		t.Errorf("%s: --%s=no would be refused: want a switch", command, name)
	case *cli.StringSliceFlag:
		t.Errorf("%s: --%s would not replace what the environment says: want a list", command, name)
	case cli.RequiredFlag:
		if f.IsRequired() {
			t.Errorf("%s: --%s is required: its error would be a page of help", command, name)
		}
	}
	takes := f.(cli.DocGenerationFlag).TakesValue()
	if name == "index" && !takes {
		return // desync's, where an archive may be meant; profile compares with an index
	}
	if before, known := takesValue[name]; len(name) > 1 && known && before != takes {
		t.Errorf("%s: --%s takes a value in one command and none in another", command, name)
	}
	takesValue[name] = takes
}

func TestHelpShowsEveryCommand(t *testing.T) {
	stdout, _, _ := caravel(t, "help")
	for _, cmd := range newApp(nil, io.Discard, io.Discard).VisibleCommands() {
		if strings.Count(stdout, "\n  "+cmd.Name+" ") != 1 {
			t.Errorf("%s is not there once:\n%s", cmd.Name, stdout)
		}
		text, stderr, status := caravel(t, "help", cmd.Name)
		if status != exitDone || !strings.Contains(text, cmd.Usage) || !strings.Contains(text, "--help") {
			t.Errorf("%s: exit status %d, %s%s", cmd.Name, status, stderr, text)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputFails(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"help", "version"}, {"version"}, {"version", "--json"}} {
		var errs bytes.Buffer
		status := run(t.Context(), newApp(strings.NewReader(""), full{}, &errs), args)
		if status != exitFailed || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%q: exit status %d, %s", args, status, errs.String())
		}
	}
}

func TestVersion(t *testing.T) {
	tests := []struct {
		build build
		text  string
	}{
		{build{Version: "v1.2.3", Go: "go1.26.0", Platform: "linux/arm64"}, "caravel v1.2.3 (go1.26.0, linux/arm64)\n"},
		{build{Version: "(devel)", Commit: "ab12", Go: "go1.26.0", Platform: "linux/arm64", Modified: true},
			"caravel (devel) (go1.26.0, linux/arm64, commit ab12 with changes)\n"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		if err := printVersion(&out, tt.build, false); err != nil || out.String() != tt.text {
			t.Errorf("got %q, %v, want %q", out.String(), err, tt.text)
		}
		out.Reset()
		var got build
		if err := printVersion(&out, tt.build, true); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || got != tt.build {
			t.Errorf("got %+v, %v, want %+v", got, err, tt.build)
		}
	}
	if b := thisBuild(); b.Version == "" || b.Go != runtime.Version() {
		t.Errorf("this build is %+v", b)
	}
}

func TestRedacted(t *testing.T) {
	const url, shown = "http://me:sesame@host/tree.caidx?key=sesame", "http://host/tree.caidx"
	for _, args := range [][]string{{"list", url}, {"mount", "--store=" + url, "x"}, {"--store", url}, {"-s=" + url}} {
		if got := redacted(url+": no good; see "+url, args); got != shown+": no good; see "+shown {
			t.Errorf("%q: %s", args, got)
		}
	}
	if got := redacted("a=b: no good", []string{"a=b", "--flag=", "", "="}); got != "a=b: no good" {
		t.Error(got)
	}
	for _, args := range []string{"tree " + url, "mount-index " + url + " mnt", "list --store=" + url + " none.caidx"} {
		if _, stderr, status := caravel(t, strings.Fields(args)...); status == exitDone || strings.Contains(stderr, "sesame") {
			t.Errorf("%s: exit status %d, %s", args, status, stderr)
		}
	}
}
