package lastwords_test

import (
	"fmt"
	"strings"
	"testing"

	"caravel/internal/lastwords"
)

func TestWords(t *testing.T) {
	var w lastwords.Words
	if got := w.String(); got != "" {
		t.Errorf("nothing is %q", got)
	}
	for i := range 5 {
		fmt.Fprintf(&w, "line\t%d\r\n\n", i)
	}
	if got, want := w.String(), "line 2; line 3; line 4"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	fmt.Fprint(&w, "\x1b[31mand the ", "end")
	if got, want := w.String(), "line 3; line 4; [31mand the end"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n, err := w.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil {
		t.Error(n, err)
	}
	fmt.Fprint(&w, strings.Repeat("x", 5000))
	if got := w.String(); got != strings.Repeat("x", 4096) {
		t.Errorf("%d bytes are kept", len(got))
	}
}
