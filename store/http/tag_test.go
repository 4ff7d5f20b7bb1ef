package http_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"caravel/store"
	"caravel/store/http"
	"caravel/store/storetest"
)

// tagged serves a folder with tags of the content, each with something in front;
// if it is deaf it does not look at the conditions of a request.
func tagged(t *testing.T, objects map[string][]byte, front string, deaf bool) *httptest.Server {
	folder := fstest.MapFS{}
	for name, content := range objects {
		folder[name] = &fstest.MapFile{Data: content}
	}
	handler := nethttp.FileServerFS(folder)
	return serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if f := folder[strings.TrimPrefix(r.URL.Path, "/")]; f != nil {
			sum := sha256.Sum256(f.Data)
			w.Header().Set("ETag", fmt.Sprintf(`%s"%x"`, front, sum[:4]))
		}
		if deaf {
			for _, key := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
				r.Header.Del(key)
			}
		}
		handler.ServeHTTP(w, r)
	})
}

func TestTagged(t *testing.T) {
	for _, front := range []string{"", "W/"} {
		for _, deaf := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,deaf=%v", front, deaf), func(t *testing.T) {
				storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
					return readOnly{newWeb(t, tagged(t, objects, front, deaf).URL, http.Options{})}
				})
			})
		}
	}
}

// What is asked, and what is made of any answer.
func TestConditions(t *testing.T) {
	const (
		date  = "Mon, 03 Feb 2020 04:05:06 GMT"
		later = "Mon, 03 Feb 2020 04:05:07 GMT"
	)
	tests := []struct {
		name       string
		must, have string
		asked      string // the header of the request
		status     int
		answer     nethttp.Header
		want       error
		tag        string
	}{
		{"strong", `"a"`, "", `If-Match: "a"`, 200, nethttp.Header{"Etag": {`"a"`}}, nil, `"a"`},
		{"strong, changed", `"a"`, "", `If-Match: "a"`, 412, nil, store.ErrChanged, ""},
		{"strong, deaf server", `"a"`, "", `If-Match: "a"`, 200, nethttp.Header{"Etag": {`"b"`}}, store.ErrChanged, ""},
		{"strong, then none", `"a"`, "", `If-Match: "a"`, 200, nil, store.ErrChanged, ""},
		{"strong, then weak", `"a"`, "", `If-Match: "a"`, 200, nethttp.Header{"Etag": {`W/"a"`}}, store.ErrChanged, ""},
		{"weak", `W/"a"`, "", "", 200, nethttp.Header{"Etag": {`W/"a"`}}, nil, `W/"a"`},
		{"weak, changed", `W/"a"`, "", "", 200, nethttp.Header{"Etag": {`W/"b"`}}, store.ErrChanged, ""},
		{"no quotes", "a", "", "", 200, nethttp.Header{"Etag": {"a"}}, nil, "a"},
		{"no quotes, changed", "a", "", "", 200, nethttp.Header{"Etag": {"b"}}, store.ErrChanged, ""},
		{"date", date, "", "If-Unmodified-Since: " + date, 200, nethttp.Header{"Last-Modified": {date}, "Date": {later}}, nil, date},
		{"date, changed", date, "", "If-Unmodified-Since: " + date, 200, nethttp.Header{"Last-Modified": {later}, "Date": {later}}, store.ErrChanged, ""},
		{"unprintable", "\"a\n\"", "", "", 200, nethttp.Header{"Etag": {`"a"`}}, store.ErrChanged, ""},

		{"unchanged", "", `"a"`, `If-None-Match: "a"`, 304, nil, store.ErrUnchanged, ""},
		{"unchanged, deaf server", "", `"a"`, `If-None-Match: "a"`, 200, nethttp.Header{"Etag": {`"a"`}}, store.ErrUnchanged, ""},
		{"unchanged, weak by now", "", `"a"`, `If-None-Match: "a"`, 200, nethttp.Header{"Etag": {`W/"a"`}}, store.ErrUnchanged, ""},
		{"another by now", "", `"a"`, `If-None-Match: "a"`, 200, nethttp.Header{"Etag": {`"b"`}}, nil, `"b"`},
		{"unchanged date", "", date, "If-Modified-Since: " + date, 304, nil, store.ErrUnchanged, ""},
		{"older date", "", later, "If-Modified-Since: " + later, 200, nethttp.Header{"Last-Modified": {date}, "Date": {later}}, nil, date},
		{"not asked for", "", "", "", 304, nil, store.ErrRefused, ""},
		{"not asked for either", "", "", "", 412, nil, store.ErrRefused, ""},
		{"unprintable, old", "", "\x00", "", 200, nethttp.Header{"Etag": {`"a"`}}, nil, `"a"`},

		{"both", "", "", "", 200, nethttp.Header{"Etag": {`"a"`}, "Last-Modified": {date}, "Date": {later}}, nil, `"a"`},
		{"changed this second", "", "", "", 200, nethttp.Header{"Last-Modified": {later}, "Date": {later}}, nil, ""},
		{"no date of the answer", "", "", "", 200, nethttp.Header{"Last-Modified": {date}, "Date": {""}}, nil, ""},
		{"no date", "", "", "", 200, nethttp.Header{"Last-Modified": {"yesterday"}, "Date": {later}}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := ""
			web := newWeb(t, serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
				for key, values := range r.Header {
					if strings.HasPrefix(key, "If-") {
						asked += key + ": " + strings.Join(values, "|")
					}
				}
				for key, values := range tt.answer {
					w.Header()[key] = values
				}
				w.WriteHeader(tt.status)
				if tt.status == 200 {
					io.WriteString(w, "content")
				}
			}).URL, http.Options{})
			body, info, err := web.Refresh(t.Context(), "file", store.Range{Tag: tt.must}, store.Info{Tag: tt.have})
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if asked != tt.asked {
				t.Errorf("asked %q, want %q", asked, tt.asked)
			}
			if err != nil {
				if text := err.Error(); !strings.HasPrefix(text, web.String()+"/file: ") || strings.Contains(text, "\n") {
					t.Errorf("error %q", text)
				}
				return
			}
			defer body.Close()
			if info.Tag != tt.tag {
				t.Errorf("tag %q, want %q", info.Tag, tt.tag)
			}
			if d := tt.answer.Get("Last-Modified"); d == date && !info.ModTime.Equal(time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)) {
				t.Errorf("changed at %v", info.ModTime)
			}
		})
	}
}

// A file that got shorter is another one, not one with a hole at its end.
func TestChangedBehindTheEnd(t *testing.T) {
	server := tagged(t, map[string][]byte{"file": []byte("short")}, "", true)
	_, _, err := newWeb(t, server.URL, http.Options{}).Open(t.Context(), "file", store.Range{Off: 100, Len: 5, Tag: `"long"`})
	if !errors.Is(err, store.ErrChanged) {
		t.Errorf("got %v", err)
	}
}

// A server that is asked for a part of another version does not send all of it.
func TestChangedWithoutRanges(t *testing.T) {
	web := newWeb(t, serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("ETag", `"new"`)
		w.Write(make([]byte, 1<<20))
	}).URL, http.Options{})
	if _, _, err := web.Open(t.Context(), "file", store.Range{Off: 100, Len: 5, Tag: `"old"`}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("got %v", err)
	}
}
