package treeoverlay

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseRecord(t *testing.T) {
	good := `{"format":"caravel overlay 1","image":"ab","part":"etc","location":"x.caidx","writer":"overlayfs"}`
	r, err := parseRecord([]byte(good + "\n"))
	if want := (record{format, "ab", "etc", "x.caidx", byKernel}); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
	for text, want := range map[string]string{
		``:                                 "not a record",
		`{`:                                "not a record",
		`[]`:                               "not a record",
		`{"format":"other"}`:               "not a record",
		`{"format":"caravel overlay 2"}`:   "another version",
		`{"format":"caravel overlay 1"}`:   "which image",
		strings.Replace(good, "ab", "", 1): "which image",
		good + good:                        "not a record",
	} {
		if r, err := parseRecord([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", text, r, err, want)
		}
	}
}

func TestFits(t *testing.T) {
	r := record{format, "ab", "etc", "x.caidx", byKernel}
	for _, tt := range []struct {
		over   Image
		writer string
		want   string
	}{
		{Image{"ab", "etc", "elsewhere"}, byKernel, ""},
		{Image{"cd", "etc", "y.caidx"}, byKernel, "lies over another image: x.caidx (ab), not over y.caidx (cd)"},
		{Image{"ab", "", "x.caidx"}, byKernel, `lies over "etc" of the image, not over all`},
		{Image{"ab", "etc", "x.caidx"}, byProgram, "was written by overlayfs, whose form fuse-overlayfs does not read"},
	} {
		err := r.fits(tt.over, tt.writer)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || err.Error() != tt.want) {
			t.Errorf("%+v: %v, want %q", tt.over, err, tt.want)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"format":"caravel overlay 1","image":"ab","part":"etc","location":"x.caidx","writer":"overlayfs"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseRecord(again); err != nil || back != r {
			t.Errorf("%+v comes back as %+v, %v", r, back, err)
		}
	})
}

func TestEscape(t *testing.T) {
	for _, path := range []string{"/a/b", `/a,b:c\d "e"`, `\`, `/\,`, ""} {
		if got := unescape(escape(path)); got != path || strings.Contains(strings.ReplaceAll(strings.ReplaceAll(escape(path), `\\`, ""), `\,`, ""), ",") {
			t.Errorf("%q: %q, %q", path, escape(path), got)
		}
	}
}
