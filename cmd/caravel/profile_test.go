package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/prefetch"
)

// A profileShop is a folder with two versions of an image and profiles of them.
type profileShop struct {
	dir       string
	old, next *index.Index
}

func newProfileShop(t *testing.T) *profileShop {
	t.Helper()
	s := &profileShop{dir: t.TempDir()}
	s.old = s.image(t, "old.caibx", "abcdef")
	s.next = s.image(t, "next.caibx", "abXdefg")
	s.record(t, "boot.profile", s.old, 3, 4, 0)
	s.record(t, "app.profile", s.old, 4, 2)
	s.record(t, "next.profile", s.next, 3, 2, 6)
	return s
}

func (s *profileShop) path(name string) string { return filepath.Join(s.dir, name) }

// image writes the index of a chunk of 100 bytes for each letter.
func (s *profileShop) image(t *testing.T, name, letters string) *index.Index {
	t.Helper()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: 100, Max: 200})
	for _, c := range []byte(letters) {
		if err := b.Append(chunker.ID{c}, 100); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, name, b.Index())
	return b.Index()
}

// record writes the profile of a run that touches rows.
func (s *profileShop) record(t *testing.T, name string, x *index.Index, rows ...int) {
	t.Helper()
	r := prefetch.NewRecorder(x.Len())
	for _, row := range rows {
		r.Touch(row)
	}
	s.write(t, name, r.Profile(x))
}

func (s *profileShop) write(t *testing.T, name string, from io.WriterTo) {
	t.Helper()
	var b bytes.Buffer
	if _, err := from.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// rows are what a profile file wants of an image.
func (s *profileShop) rows(t *testing.T, file []byte, x *index.Index) []int {
	t.Helper()
	p, err := prefetch.ReadProfile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return p.Rows(x)
}

func TestProfileShow(t *testing.T) {
	s := newProfileShop(t)
	sum := fmt.Sprintf("%x", s.old.Sum())
	boot := "Index: " + sum + "\nChunks: 3\nRuns: 2\nBytes: 300\n"
	tests := []struct {
		index string
		more  string
		image *profileOfImage
	}{
		{"", "", nil},
		{"old.caibx", "In the image it was recorded with: 3 chunks, 300 bytes\n", &profileOfImage{true, 3, 300}},
		{"next.caibx", "In another image: 3 chunks, 300 bytes\n", &profileOfImage{false, 3, 300}},
	}
	for _, tt := range tests {
		args := []string{"profile", "show", s.path("boot.profile")}
		if tt.index != "" {
			args = append(args, "--index", s.path(tt.index))
		}
		stdout, stderr, status := caravel(t, args...)
		if status != exitDone || stdout != boot+tt.more || stderr != "" {
			t.Errorf("%s: exit status %d, %s%s", tt.index, status, stdout, stderr)
		}
		stdout, stderr, status = caravel(t, append(args, "--json")...)
		var got profileReport
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != exitDone {
			t.Fatalf("%s: exit status %d, %v, %s", tt.index, status, err, stderr)
		}
		image := got.Image
		got.Image = nil
		if got != (profileReport{Index: sum, Chunks: 3, Runs: 2, Bytes: 300}) || (image == nil) != (tt.image == nil) || image != nil && *image != *tt.image {
			t.Errorf("%s: %s", tt.index, stdout)
		}
	}
}

func TestProfileMerge(t *testing.T) {
	s := newProfileShop(t)
	tests := []struct {
		files     string
		old, next []int // rows of the images that OUT wants
	}{
		{"boot.profile", []int{3, 4, 0}, []int{3, 4, 0}},
		{"boot.profile app.profile", []int{3, 4, 0, 2}, []int{3, 4, 0}},
		{"app.profile boot.profile app.profile", []int{4, 2, 3, 0}, []int{4, 3, 0}},
		{"app.profile next.profile", []int{4, 2, 3}, []int{4, 3, 2, 6}},
	}
	for _, tt := range tests {
		t.Run(tt.files, func(t *testing.T) {
			args := []string{"profile", "merge"}
			for _, f := range strings.Fields(tt.files) {
				args = append(args, s.path(f))
			}
			stdout, stderr, status := caravel(t, append(args, "-o", "-")...)
			if status != exitDone || stderr != "" {
				t.Fatalf("exit status %d, %s", status, stderr)
			}
			out := s.path("out.profile")
			if more, stderr, status := caravel(t, append(args, "--output="+out)...); status != exitDone || more+stderr != "" {
				t.Fatalf("exit status %d, %s%s", status, more, stderr)
			}
			file, err := os.ReadFile(out)
			if err != nil || string(file) != stdout {
				t.Errorf("the file is not what goes to standard output (%v)", err)
			}
			if got := s.rows(t, file, s.old); !slices.Equal(got, tt.old) {
				t.Errorf("of the old image %v, want %v", got, tt.old)
			}
			if got := s.rows(t, file, s.next); !slices.Equal(got, tt.next) {
				t.Errorf("of the next image %v, want %v", got, tt.next)
			}
		})
	}
	stdout, _, _ := caravel(t, "profile", "show", s.path("out.profile"))
	if want := fmt.Sprintf("Index: %x\nChunks: 5\nRuns: 3\nBytes: 500\nOf other versions: 3 chunks\n", s.old.Sum()); stdout != want {
		t.Errorf("got %s, want %s", stdout, want)
	}
}

// A merge may write what it reads.
func TestProfileMergeInPlace(t *testing.T) {
	s := newProfileShop(t)
	out := s.path("boot.profile")
	if _, stderr, status := caravel(t, "profile", "merge", "-o", out, out, s.path("app.profile")); status != exitDone {
		t.Fatalf("exit status %d, %s", status, stderr)
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.rows(t, file, s.old); !slices.Equal(got, []int{3, 4, 0, 2}) {
		t.Errorf("got %v", got)
	}
}

func TestProfileErrors(t *testing.T) {
	s := newProfileShop(t)
	if err := os.WriteFile(s.path("cut.profile"), []byte("caravel profile\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args   string
		status int
		want   string // $ stands for the folder
	}{
		{"", exitUsage, "profile: want show or merge; see caravel profile --help"},
		{"list $/boot.profile", exitUsage, `profile: want show or merge, not "list"; see caravel profile --help`},
		{"show", exitUsage, "profile: show wants one FILE, not 0; see caravel profile --help"},
		{"show a b", exitUsage, "profile: show wants one FILE, not 2; see caravel profile --help"},
		{"show -o x $/boot.profile", exitUsage, "profile: --output goes with merge; see caravel profile --help"},
		{"merge $/boot.profile", exitUsage, "profile: merge needs -o OUT; see caravel profile --help"},
		{"merge -o $/out", exitUsage, "profile: merge wants one FILE or more; see caravel profile --help"},
		{"merge --json -o $/out $/boot.profile", exitUsage, "profile: --json and --index go with show; see caravel profile --help"},
		{"merge --index=x -o $/out $/boot.profile", exitUsage, "profile: --json and --index go with show; see caravel profile --help"},
		{"show $/cut.profile", exitFailed, "$/cut.profile: profile: offset 16: truncated in the header"},
		{"show $/old.caibx", exitFailed, "$/old.caibx: profile: offset 0: not a profile"},
		{"show --index=$/boot.profile $/boot.profile", exitFailed, "$/boot.profile: index: offset 0: not an index (want a .caibx or .caidx file)"},
		{"show -", exitFailed, "-: profile: offset 0: truncated in the header"},
		{"merge -o $/out $/boot.profile $/cut.profile", exitFailed, "$/cut.profile: profile: offset 16: truncated in the header"},
		{"merge -o $ $/boot.profile", exitFailed, "$: is a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			args := strings.Fields("profile " + strings.ReplaceAll(tt.args, "$", s.dir))
			stdout, stderr, status := caravel(t, args...)
			want := "caravel: " + strings.ReplaceAll(tt.want, "$", s.dir) + "\n"
			if status != tt.status || stdout != "" || stderr != want {
				t.Errorf("exit status %d, %s%s, want %s", status, stdout, stderr, want)
			}
			if _, err := os.Stat(s.path("out")); err == nil {
				t.Error("an output is there")
			}
		})
	}
}

func TestProfileOutputFails(t *testing.T) {
	s := newProfileShop(t)
	for _, args := range [][]string{{"show"}, {"show", "--json"}, {"merge", "-o", "-"}} {
		var errs bytes.Buffer
		args = append(append([]string{"profile"}, args...), s.path("boot.profile"))
		status := run(t.Context(), newApp(strings.NewReader(""), full{}, &errs), args)
		if status != exitFailed || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%q: exit status %d, %s", args, status, errs.String())
		}
	}
}
