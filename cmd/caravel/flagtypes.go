package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/catalog"
	"caravel/chunker"
	"caravel/internal/progress"
	"caravel/store"
)

// A value connects a flag with a variable. It goes into a cli.GenericFlag,
// which shows what the variable holds beforehand as the default.
type value[T any] struct {
	to    *T
	parse func(string) (T, error)
	show  func(T) string
}

// again is what Serialize gives urfave/cli to set a flag's other names with,
// after its first name was set: the variable has its value already. No word of
// a command line can hold a NUL.
const again = "\x00"

func (v *value[T]) Set(s string) error {
	if s == again {
		return nil
	}
	got, err := v.parse(s)
	if err != nil {
		return err
	}
	*v.to = got
	return nil
}

func (v *value[T]) String() string    { return v.show(*v.to) }
func (v *value[T]) Serialize() string { return again }

// A switchFlag says yes or no: --name, --name=no.
type switchFlag struct{ *cli.GenericFlag }

// newSwitch makes a switchFlag. Whether it was given at all is c.IsSet's answer.
func newSwitch(name, usage string, to *bool, aliases ...string) switchFlag {
	return switchFlag{&cli.GenericFlag{
		Name:    name,
		Aliases: aliases,
		Usage:   usage,
		Value:   &yesNo{value[bool]{to, parseYesNo, showYesNo}},
	}}
}

// TakesValue is false: a value stands behind "=" or nowhere.
func (f switchFlag) TakesValue() bool { return false }

// GetDefaultText leaves the usual "no" unsaid.
func (f switchFlag) GetDefaultText() string {
	if text := f.GenericFlag.GetDefaultText(); text != "no" {
		return text
	}
	return ""
}

func (f switchFlag) String() string { return cli.FlagStringer(f) }

type yesNo struct{ value[bool] }

// IsBoolFlag tells package flag that there may be no value.
func (*yesNo) IsBoolFlag() bool { return true }

// parseYesNo reads casync's words.
func parseYesNo(s string) (bool, error) {
	switch s {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, errors.New("want yes or no")
}

func showYesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// A listFlag may be given many times and keeps each value as it is. What is
// given on the command line replaces what the environment gave.
type listFlag struct {
	*cli.GenericFlag
	list *list
}

func newList(name, usage string, to *[]string, aliases ...string) *listFlag {
	l := &list{to: to}
	return &listFlag{&cli.GenericFlag{Name: name, Aliases: aliases, Usage: usage, Value: l}, l}
}

// Apply is called by urfave/cli before it reads the command line.
func (f *listFlag) Apply(set *flag.FlagSet) error {
	err := f.GenericFlag.Apply(set)
	f.list.replace = f.HasBeenSet // by the environment
	return err
}

type list struct {
	to      *[]string
	replace bool // the next value is not added but stands for all so far
}

func (l *list) Set(s string) error {
	if s == again {
		return nil
	}
	if l.replace {
		*l.to, l.replace = nil, false
	}
	*l.to = append(*l.to, s)
	return nil
}

func (l *list) String() string  { return strings.Join(*l.to, " ") }
func (*list) Serialize() string { return again }

// sizeValue is a number of bytes as casync writes them: 64M, 1.5K, 65536.
func sizeValue(to *int64) cli.Generic {
	return &value[int64]{to, chunker.ParseSize, showSize}
}

// showSize writes n with the largest unit that divides it, "" for 0.
func showSize(n int64) string {
	if n == 0 {
		return ""
	}
	unit := ""
	for _, u := range []string{"K", "M", "G", "T"} {
		if n%1024 != 0 {
			break
		}
		n, unit = n/1024, u
	}
	return strconv.FormatInt(n, 10) + unit
}

// durationValue is a time as Go writes it, or a number of seconds.
func durationValue(to *time.Duration) cli.Generic {
	return &value[time.Duration]{to, parseDuration, showDuration}
}

func parseDuration(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 63); err == nil {
		if n > uint64(math.MaxInt64/time.Second) {
			return 0, errors.New("too long")
		}
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errors.New("want a time such as 90s or 5m")
	}
	return d, nil
}

func showDuration(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return d.String()
}

// workersValue is a number of jobs at once.
func workersValue(to *int) cli.Generic {
	const most = 1 << 16
	parse := func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > most {
			return 0, fmt.Errorf("want a number from 1 to %d", most)
		}
		return n, nil
	}
	show := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	return &value[int]{to, parse, show}
}

// digestValue is the name of an algorithm.
func digestValue(to *chunker.Digest) cli.Generic {
	return &value[chunker.Digest]{to, chunker.ParseDigest, chunker.Digest.String}
}

// modeValue is a way to show progress.
func modeValue(to *progress.Mode) cli.Generic {
	return &value[progress.Mode]{to, progress.ParseMode, progress.Mode.String}
}

// pinValue is HEX or ALGORITHM:HEX; the variable stays nil without the flag.
func pinValue(to **catalog.Pin) cli.Generic {
	show := func(p *catalog.Pin) string {
		if p == nil {
			return ""
		}
		return p.Digest.String() + ":" + p.ID.String()
	}
	return &value[*catalog.Pin]{to, parsePin, show}
}

func parsePin(s string) (*catalog.Pin, error) {
	name, hex, found := strings.Cut(s, ":")
	if !found {
		name, hex = "default", s
	}
	d, err := chunker.ParseDigest(name)
	if err != nil {
		return nil, err
	}
	id, err := chunker.ParseID(hex)
	if err != nil {
		return nil, err
	}
	return &catalog.Pin{Digest: d, ID: id}, nil
}

// logLevelValue is one of casync's words or syslog's numbers 0 to 7.
func logLevelValue(to *slog.Level) cli.Generic {
	return &value[slog.Level]{to, parseLogLevel, showLogLevel}
}

// A logWord is a level of syslog; the number is its place in logWords.
type logWord struct {
	word  string
	level slog.Level
}

// logWords has slog's four levels where they belong and syslog's others around.
func logWords() []logWord {
	return []logWord{
		{"emerg", slog.LevelError + 12},
		{"alert", slog.LevelError + 8},
		{"crit", slog.LevelError + 4},
		{"err", slog.LevelError},
		{"warning", slog.LevelWarn},
		{"notice", slog.LevelInfo + 2},
		{"info", slog.LevelInfo},
		{"debug", slog.LevelDebug},
	}
}

func parseLogLevel(s string) (slog.Level, error) {
	words := logWords()
	i := slices.IndexFunc(words, func(w logWord) bool { return w.word == s })
	if i < 0 && len(s) == 1 {
		i = int(s[0]) - '0'
	}
	if i < 0 || i >= len(words) {
		return 0, errors.New("want emerg, alert, crit, err, warning, notice, info or debug, or 0 to 7")
	}
	return words[i].level, nil
}

func showLogLevel(level slog.Level) string {
	for _, w := range logWords() {
		if w.level == level {
			return w.word
		}
	}
	return level.String()
}

// compressionValue is how a store packs chunks: zstd:5, xz, none.
func compressionValue(to *store.Form) cli.Generic {
	parse := func(s string) (f store.Form, err error) {
		f = *to
		if s == "default" { // casync's word
			s = store.Zstd.String()
		}
		f.Compression, f.Level, err = store.ParseCompression(s)
		return f, err
	}
	show := func(f store.Form) string { return f.Compression.String() }
	return &value[store.Form]{to, parse, show}
}
