package main

import "testing"

func TestRoff(t *testing.T) {
	tests := map[string]string{
		"plain":      "plain",
		".TH is bad": `\&.TH is bad`,
		"'quoted'":   `\(aqquoted\(aq`,
		`C:\dir -x`:  `C:\edir \-x`,
		"~/a^b`c`":   `\(ti/a\(hab\(gac\(ga`,
	}
	for text, want := range tests {
		if got := roff(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got, want := quoted(`say "a"`), `"say \(dqa\(dq"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWrapped(t *testing.T) {
	if got, want := wrapped("one two  three\nsevenletters x", 9), "one two\nthree\nsevenletters\nx"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestQuoted(t *testing.T) {
	in := `it's a\b`
	if got, want := zshQuoted(in), `'it'\''s a\b'`; got != want {
		t.Errorf("zsh: %s, want %s", got, want)
	}
	if got, want := fishQuoted(in), `'it\'s a\\b'`; got != want {
		t.Errorf("fish: %s, want %s", got, want)
	}
}
