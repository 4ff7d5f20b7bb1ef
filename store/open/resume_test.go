package open

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
)

// script is a backend that answers each Open with the next of its lines, and
// with the last one from then on.
type script struct {
	lines []line
	asked []int64 // offsets
}

// A line is the error of an Open, or the text that it gives before its body
// breaks with broken.
type line struct {
	err    error
	text   string
	broken error // nil: io.EOF
	info   store.Info
}

func (s *script) String() string { return "script" }

func (s *script) Open(_ context.Context, _ string, r store.Range) (io.ReadCloser, store.Info, error) {
	l := s.lines[min(len(s.asked), len(s.lines)-1)]
	s.asked = append(s.asked, r.Off)
	if l.err != nil {
		return nil, store.Info{}, l.err
	}
	return &part{strings.NewReader(l.text), l.broken}, l.info, nil
}

type part struct {
	text io.Reader
	end  error
}

func (p *part) Read(b []byte) (int, error) {
	n, err := p.text.Read(b)
	if err == io.EOF && p.end != nil {
		err = p.end
	}
	return n, err
}

func (p *part) Close() error { return nil }

func TestResume(t *testing.T) {
	reset := errors.New("connection reset")
	busy := &store.BusyError{After: 20 * time.Second, Err: errors.New("503 Service Unavailable")}
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	v1, v2 := store.Info{Size: 10, Tag: "1"}, store.Info{Size: 10, Tag: "2"}
	tests := []struct {
		name    string
		lines   []line
		want    string
		err     string // "": none
		asked   []int64
		longest time.Duration
	}{
		{"smooth", []line{{text: "0123456789", info: v1}}, "0123456789", "", []int64{0}, 0},
		{"cut", []line{{text: "0123", broken: reset, info: v1}, {err: reset}, {text: "45", broken: io.ErrUnexpectedEOF, info: v1}, {text: "6789", info: v1}},
			"0123456789", "", []int64{0, 4, 4, 6}, time.Second},
		{"busy at first", []line{{err: busy}, {text: "0123456789", info: v1}}, "0123456789", "", []int64{0, 0}, 20 * time.Second},
		{"changed", []line{{text: "0123", broken: reset, info: v1}, {text: "456789", info: v2}}, "0123", "changed meanwhile", []int64{0, 4}, time.Second},
		{"changed, says the server", []line{{text: "0123", broken: reset, info: v1}, {err: store.ErrChanged}}, "0123", "changed meanwhile", []int64{0, 4}, time.Second},
		{"unchanged", []line{{err: store.ErrUnchanged}}, "", "not changed", []int64{0}, 0},
		{"other length", []line{{text: "0123", broken: reset, info: v1}, {text: "4", info: store.Info{Size: 5, Tag: "1"}}}, "0123", "changed meanwhile", []int64{0, 4}, time.Second},
		{"by time", []line{{text: "0123", broken: reset, info: store.Info{Size: 10, ModTime: day}}, {text: "456789", info: store.Info{Size: 10, ModTime: day, Tag: "1"}}},
			"0123456789", "", []int64{0, 4}, time.Second},
		{"other time", []line{{text: "0123", broken: reset, info: store.Info{Size: 10, ModTime: day}}, {text: "456789", info: store.Info{Size: 10, ModTime: day.Add(time.Second)}}},
			"0123", "changed meanwhile", []int64{0, 4}, time.Second},
		{"no version", []line{{text: "0123", broken: reset, info: store.Info{Size: 10}}}, "0123", "connection reset", []int64{0}, 0},
		{"missing", []line{{err: store.ErrMissing}}, "", "not there", []int64{0}, 0},
		{"vanished", []line{{text: "0", broken: reset, info: v1}, {err: store.ErrMissing}}, "0", "not there", []int64{0, 1}, time.Second},
		{"refused", []line{{err: store.ErrRefused}}, "", "refused", []int64{0}, 0},
		{"down", []line{{err: reset}}, "", "connection reset (tried ", nil, time.Minute},
		{"header and no more", []line{{broken: reset, info: v1}}, "", "connection reset (tried ", nil, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{lines: tt.lines}
				began := time.Now()
				var got []byte
				r, _, err := resume(t.Context(), s, "file", store.Range{}, store.Info{}, Options{})
				if err == nil {
					got, err = io.ReadAll(r)
					r.Close()
				}
				if string(got) != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %q, error %v; want %q, %q", got, err, tt.want, tt.err)
				}
				if tt.asked != nil && fmt.Sprint(s.asked) != fmt.Sprint(tt.asked) {
					t.Errorf("asked at %v, want %v", s.asked, tt.asked)
				}
				if len(s.asked) > 40 {
					t.Errorf("asked %d times", len(s.asked))
				}
				if took := time.Since(began); took > tt.longest || took < tt.longest/2 && tt.longest >= busy.After {
					t.Errorf("took %v, want about %v", took, tt.longest)
				}
			})
		})
	}
}

func TestResumeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		began := time.Now()
		_, _, err := resume(ctx, &script{lines: []line{{err: errors.New("down")}}}, "file", store.Range{}, store.Info{}, Options{Timeout: -1})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 10*time.Minute {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}
