package progress_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/internal/progress"
)

// screen is what a terminal shows after it was sent b: the lines, the last one
// being that of the cursor.
func screen(b []byte) []string {
	lines := [][]rune{{}}
	column := 0
	for _, r := range string(b) {
		last := len(lines) - 1
		switch r {
		case '\r':
			column = 0
		case '\n':
			lines, column = append(lines, []rune{}), 0
		default:
			if column == len(lines[last]) {
				lines[last] = append(lines[last], ' ')
			}
			lines[last][column] = r
			column++
		}
	}
	var text []string
	for _, l := range lines {
		text = append(text, strings.TrimRight(string(l), " "))
	}
	return text
}

func TestPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := progress.New(&out, progress.Plain, "make disk.caibx", 100<<20)
		time.Sleep(500 * time.Millisecond)
		for range 10 {
			p.Add(5 << 20)
			time.Sleep(time.Second)
		}
		time.Sleep(500 * time.Millisecond)
		p.Done(nil)
		want := "make disk.caibx: 25%, 25 MiB of 100 MiB, 5.0 MiB/s, 0:15 left\n" +
			"make disk.caibx: 50%, 50 MiB of 100 MiB, 5.0 MiB/s, 0:10 left\n" +
			"make disk.caibx: 50 MiB in 0:11, 4.5 MiB/s\n"
		if got := out.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

func TestShortJobLeavesNothing(t *testing.T) {
	for _, mode := range []progress.Mode{progress.Auto, progress.Bar, progress.Plain, progress.None} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				p := progress.New(&out, mode, "cat", 10)
				p.Set(10)
				time.Sleep(4 * time.Second)
				p.Done(nil)
				p.Done(errors.New("the second call counts for nothing"))
				if got := screen(out.Bytes()); len(got) != 1 || got[0] != "" {
					t.Errorf("left %q", got)
				}
			})
		})
	}
}

func TestFailedJobLeavesNothing(t *testing.T) {
	for _, mode := range []progress.Mode{progress.Bar, progress.None} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				p := progress.New(&out, mode, "extract", 0)
				time.Sleep(time.Minute)
				p.Done(errors.New("interrupted"))
				if got := screen(out.Bytes()); len(got) != 1 || got[0] != "" {
					t.Errorf("left %q", got)
				}
			})
		})
	}
}

func TestBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := progress.New(&out, progress.Bar, "make disk.caibx", 4<<30)
		at := func(d time.Duration, want ...string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			got := screen(out.Bytes())
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		at(50*time.Millisecond, "")
		p.Set(2 << 30)
		bar := "make disk.caibx  [======       ]  50%, 2.0 GiB of 4.0 GiB  1.8 GiB/s  0:01 left"
		at(time.Second, bar)

		// A line of a logger stands above the bar.
		fmt.Fprintln(p, "level=WARN msg=slow")
		at(0, "level=WARN msg=slow", bar)

		p.Total(0)
		p.Set(0)
		time.Sleep(time.Hour)
		p.Set(3 << 30)
		p.Done(nil)
		at(0, "level=WARN msg=slow", "make disk.caibx: 3.0 GiB in 1:00:01, 874 KiB/s", "")
		fmt.Fprintln(p, "afterwards")
		at(0, "level=WARN msg=slow", "make disk.caibx: 3.0 GiB in 1:00:01, 874 KiB/s", "afterwards", "")
	})
}

func TestBarNeverWraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := progress.New(&out, progress.Bar, strings.Repeat("very/", 40)+"long\n\x1b[2J名前.caibx", 1<<50)
		for i := range 100 {
			p.Set(1 << (i / 2))
			time.Sleep(time.Second)
		}
		p.Done(errors.New("enough"))
		for _, line := range strings.Split(out.String(), "\r") {
			if len(line) > 79 || strings.ContainsAny(line, "\n\x1b") {
				t.Fatalf("%d columns: %q", len(line), line)
			}
		}
	})
}

func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := progress.New(&out, progress.JSON, "extract", 3000)
		p.Counter().Add(1000)
		time.Sleep(1500 * time.Millisecond)
		p.Add(500)
		p.Done(errors.New("disk full"))
		want := `{"what":"extract","state":"running","done":1000,"total":3000,"rate":1000,"left":2,"elapsed":1}
{"what":"extract","state":"failed","done":1500,"total":3000,"rate":1000,"elapsed":1.5,"error":"disk full"}
`
		if got := out.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		for line := range strings.Lines(out.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %s", line)
			}
		}
	})
}

func TestJSONDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		progress.New(&out, progress.JSON, "extract", 0).Done(nil)
		if got, want := out.String(), `{"what":"extract","state":"done","done":0,"rate":0,"elapsed":0}`+"\n"; got != want {
			t.Errorf("got %swant %s", got, want)
		}
	})
}

func TestParsable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := progress.New(&out, progress.Parsable, "extract", 300)
		p.Set(100)
		time.Sleep(750 * time.Millisecond)
		p.Done(nil)
		if got, want := out.String(), "extract 33.33% 1s\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestManyCallers(t *testing.T) {
	p := progress.New(new(bytes.Buffer), progress.Bar, "make", 0)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				p.Add(1)
			}
			fmt.Fprintln(p, "half way")
			p.Done(nil)
		})
	}
	all.Wait()
	if got := p.Counter().Load(); got != 8000 {
		t.Errorf("counted %d, want 8000", got)
	}
}

func TestParseMode(t *testing.T) {
	for _, m := range []progress.Mode{progress.Auto, progress.Bar, progress.Plain, progress.JSON, progress.None} {
		if got, err := progress.ParseMode(m.String()); got != m || err != nil {
			t.Errorf("%v: got %v, %v", m, got, err)
		}
	}
	for _, s := range []string{"", "Bar", "parsable"} {
		if m, err := progress.ParseMode(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, m)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	p := progress.New(new(bytes.Buffer), progress.Bar, "make", 0)
	defer p.Done(nil)
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		p.Add(1)
		n++
	}
	if got := p.Counter().Load(); got != n {
		b.Errorf("counted %d, want %d", got, n)
	}
}

func Example() {
	p := progress.New(os.Stderr, progress.Plain, "extract disk.caibx", 4096)
	fetched := p.Counter()
	for range 4 {
		fetched.Add(1024)
	}
	p.Done(nil)
	fmt.Println(fetched.Load())
	// Output: 4096
}
