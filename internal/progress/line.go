package progress

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
)

// A status is how a job stands at one moment.
type status struct {
	what        string
	done, total int64
	elapsed     time.Duration
	rate        float64 // bytes a second, of late
}

// left estimates the time to go.
func (s status) left() (time.Duration, bool) {
	if s.total <= 0 || s.rate < 1 {
		return 0, false
	}
	seconds := float64(max(s.total-s.done, 0)) / s.rate
	if seconds > float64(math.MaxInt64/time.Second) {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// part is how much of the job is done, 0 to 1.
func (s status) part() float64 {
	if s.total <= 0 {
		return 0
	}
	return min(max(float64(s.done)/float64(s.total), 0), 1)
}

// figures are the parts of a line that change.
func (s status) figures() []string {
	f := []string{byteCount(float64(s.done)), byteCount(s.rate) + "/s"}
	if s.total <= 0 {
		return append(f, clock(s.elapsed))
	}
	f[0] = fmt.Sprintf("%d%%, %s of %s", int(s.part()*100), f[0], byteCount(float64(s.total)))
	if left, ok := s.left(); ok {
		f = append(f, clock(left)+" left")
	}
	return f
}

func (s status) plain() string { return s.what + ": " + strings.Join(s.figures(), ", ") }

// parsable is a line as desync's, whose readers look for the percentage.
func (s status) parsable() string {
	line := fmt.Sprintf("%s %.2f%%", s.what, s.part()*100)
	if left, ok := s.left(); ok {
		line += " " + left.Round(time.Second).String()
	}
	return line
}

// summary is the line that stays of a job that is done.
func (s status) summary() string {
	return fmt.Sprintf("%s: %s in %s, %s/s", s.what, byteCount(float64(s.done)), clock(s.elapsed), byteCount(s.average()))
}

func (s status) average() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(s.done) / s.elapsed.Seconds()
}

func (s status) json(state string, err error) string {
	out := struct {
		What    string   `json:"what"`
		State   string   `json:"state"`
		Done    int64    `json:"done"`
		Total   int64    `json:"total,omitempty"`
		Rate    int64    `json:"rate"`
		Left    *float64 `json:"left,omitempty"`
		Elapsed float64  `json:"elapsed"`
		Error   string   `json:"error,omitempty"`
	}{What: s.what, State: state, Done: s.done, Total: s.total, Rate: int64(s.rate), Elapsed: tenths(s.elapsed)}
	if state != "running" {
		out.Rate = int64(s.average())
	} else if left, ok := s.left(); ok {
		seconds := tenths(left)
		out.Left = &seconds
	}
	if err != nil {
		out.Error = err.Error()
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings and finite numbers only
	}
	return string(text)
}

// bar is the line of at most width columns. What does not fit goes, in this
// order: the bar itself, the end of the name, the figures from the right.
func (s status) bar(width int) string {
	const most, least = 40, 10 // columns of a bar that is worth a look
	figures := s.figures()
	for len(figures) > 1 && cells(strings.Join(figures, "  ")) > width {
		figures = figures[:len(figures)-1]
	}
	text := strings.Join(figures, "  ")
	room := width - cells(text) - 2
	if room < 1 {
		return cut(text, width)
	}
	line := cut(s.what, room)
	if size := min(room-cells(line)-4, most); s.total > 0 && size >= least {
		full := int(s.part() * float64(size))
		line += "  [" + strings.Repeat("=", full) + strings.Repeat(" ", size-full) + "]"
	}
	return line + "  " + text
}

// A meter measures the rate of late: the older a second, the less it counts.
type meter struct {
	last         time.Time
	done         int64
	bytes, weigh float64
}

// sample takes done at the time now and returns bytes a second.
func (m *meter) sample(now time.Time, done int64) float64 {
	const memory = 5 * time.Second // after this time a second counts 1/e
	if passed := now.Sub(m.last).Seconds(); passed > 0 {
		fade := math.Exp(-passed / memory.Seconds())
		m.bytes = m.bytes*fade + max(float64(done-m.done), 0)/passed*(1-fade)
		m.weigh = m.weigh*fade + 1 - fade
		m.last, m.done = now, done
	}
	if m.weigh == 0 {
		return 0
	}
	return m.bytes / m.weigh
}

// byteCount is n for people: three or four digits and a unit.
func byteCount(n float64) string {
	n = max(n, 0)
	unit := "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if n < 1000 {
			break
		}
		n, unit = n/1024, u
	}
	if n < 10 && unit != "B" {
		return fmt.Sprintf("%.1f %s", n, unit)
	}
	return fmt.Sprintf("%.0f %s", n, unit)
}

// clock is d as 0:07, 12:34 or 1:02:03.
func clock(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

func tenths(d time.Duration) float64 { return math.Round(d.Seconds()*10) / 10 }

// printable replaces what could move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// cells is the number of columns that s may take. From the first wide scripts
// on every character is taken for a wide one: a bar too short does no harm.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n += cell(r)
	}
	return n
}

func cell(r rune) int {
	if r >= 0x1100 {
		return 2
	}
	return 1
}

// cut shortens s to at most width columns.
func cut(s string, width int) string {
	n := 0
	for i, r := range s {
		if n += cell(r); n > width {
			return s[:i]
		}
	}
	return s
}
