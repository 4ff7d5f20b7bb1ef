package origin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

var content = bytes.Repeat([]byte("0123456789"), 5000)

func start(t *testing.T, opt origin.Options) *origin.Origin {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := origin.Start(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// get asks for the file on a connection of its own.
func get(ctx context.Context, o *origin.Origin) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", o.URL()+"/file", nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestServes(t *testing.T) {
	o := start(t, origin.Options{})
	if _, body, err := get(t.Context(), o); err != nil || !bytes.Equal(body, content) {
		t.Fatalf("got %d bytes, error %v", len(body), err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", o.URL()+"/file?key=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=10-14")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "01234" || resp.StatusCode != http.StatusPartialContent {
		t.Errorf("range: got %s, %q, error %v", resp.Status, body, err)
	}
	c := o.Counts()
	if c.Requests != 2 || c.Connections != 2 || c.Bytes != int64(len(content)+5) || c.Paths["/file"] != 2 {
		t.Errorf("counted %+v", c)
	}
	o.Reset()
	if c := o.Counts(); c.Requests != 0 || c.Bytes != 0 || len(c.Paths) != 0 {
		t.Errorf("after Reset counted %+v", c)
	}
}

func TestFaults(t *testing.T) {
	const at = 40_000
	tests := []struct {
		name  string
		fault origin.Fault
		check func(resp *http.Response, body []byte, err error) bool
	}{
		{"status", origin.Fault{Kind: origin.Answer, Status: 429, RetryAfter: 3 * time.Second}, func(resp *http.Response, _ []byte, err error) bool {
			return err == nil && resp.StatusCode == 429 && resp.Header.Get("Retry-After") == "3"
		}},
		{"cut", origin.Fault{Kind: origin.Cut, At: at}, func(_ *http.Response, body []byte, err error) bool {
			return err == io.ErrUnexpectedEOF && bytes.Equal(body, content[:at])
		}},
		{"flip", origin.Fault{Kind: origin.Flip, At: at}, func(_ *http.Response, body []byte, err error) bool {
			return err == nil && len(body) == len(content) && body[at] == content[at]^0xff &&
				bytes.Equal(body[:at], content[:at]) && bytes.Equal(body[at+1:], content[at+1:])
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := start(t, origin.Options{Faults: origin.Every(2, tt.fault)})
			for n := 1; n <= 4; n++ {
				resp, body, err := get(t.Context(), o)
				if n%2 == 0 && !tt.check(resp, body, err) {
					t.Errorf("request %d: got %v, %d bytes, error %v", n, resp, len(body), err)
				}
				if n%2 == 1 && (err != nil || !bytes.Equal(body, content)) {
					t.Errorf("request %d: got %d bytes, error %v; want no fault", n, len(body), err)
				}
			}
		})
	}
}

// A hanging answer ends with its client, and with the server.
func TestHang(t *testing.T) {
	o := start(t, origin.Options{Faults: origin.Every(1, origin.Fault{Kind: origin.Hang, At: 5})})
	open := func(ctx context.Context) io.ReadCloser {
		req, err := http.NewRequestWithContext(ctx, "GET", o.URL()+"/file", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := open(ctx)
	defer left.Close()
	cancel()
	if _, err := left.Read(make([]byte, 1)); err == nil {
		t.Error("a byte came")
	}
	stays := open(t.Context())
	defer stays.Close()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := stays.Read(make([]byte, 1)); err == nil {
		t.Error("a byte came")
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "origin")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("hello, far away"), 0o644); err != nil {
		fmt.Println(err)
		return
	}
	o, err := origin.Start(dir, origin.Options{RTT: 20 * time.Millisecond, Bandwidth: 125_000_000})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer o.Close()
	resp, err := http.Get(o.URL() + "/hello")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Printf("%s %v, %d request\n", body, err, o.Counts().Requests)
	// Output: hello, far away <nil>, 1 request
}

// Conditions and ranges are answered by a strong tag, which changes when the
// file does.
func TestConditions(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	o, err := origin.Start(dir, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	tag := ""
	for _, content := range []string{"0123456789", "abcde"} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		resp, _, err := get(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		former := tag
		tag = resp.Header.Get("ETag")
		if tag == former || !strings.HasPrefix(tag, `"`) {
			t.Errorf("tag %s after %s", tag, former)
		}
		for _, tt := range []struct {
			key, value, with string
			status           int
			body             string
		}{
			{"If-None-Match", tag, "", 304, ""},
			{"If-None-Match", `"other"`, "", 200, content},
			{"If-Match", tag, "", 200, content},
			{"If-Match", `"other"`, "", 412, ""},
			{"If-Match", tag, "bytes=1-2", 206, content[1:3]},
			{"If-Range", tag, "bytes=3-", 206, content[3:]},
			{"If-Range", `"other"`, "bytes=3-", 200, content},
		} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", o.URL()+"/file", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(tt.key, tt.value)
			if tt.with != "" {
				req.Header.Set("Range", tt.with)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != tt.status || string(body) != tt.body {
				t.Errorf("%s: %s, %s: got %s, %q, error %v", tt.key, tt.value, tt.with, resp.Status, body, err)
			}
		}
	}
}

func TestReset(t *testing.T) {
	o := start(t, origin.Options{Faults: origin.Every(1, origin.Fault{Kind: origin.Reset, At: 10_000})})
	if _, body, err := get(t.Context(), o); !errors.Is(err, syscall.ECONNRESET) || len(body) > 10_000 {
		t.Errorf("%d bytes, error %v, want a reset", len(body), err)
	}
}

// Each fault comes about as often as is said, and at the same requests again.
func TestRandom(t *testing.T) {
	odds := []origin.Odds{
		{Chance: 0.1, Fault: origin.Fault{Kind: origin.Answer, Status: 503}},
		{Chance: 0.02, Fault: origin.Fault{Kind: origin.Cut}, Within: 1000},
		{Chance: 0.01, Fault: origin.Fault{Late: 2 * time.Second}},
	}
	const of = 100_000
	faults, again, other := origin.Random(7, odds...), origin.Random(7, odds...), origin.Random(8, odds...)
	seen := map[origin.Kind]int{}
	late, differ := 0, false
	for n := int64(of); n > 0; n-- {
		f := faults(n, "/x")
		if f != again(n, "/y") {
			t.Fatalf("request %d: not the same fault again", n)
		}
		differ = differ || f != other(n, "/x")
		seen[f.Kind]++
		if f.Late > 0 {
			late++
		}
		if f.At < 0 || f.At >= 1000 {
			t.Fatalf("request %d: at %d", n, f.At)
		}
	}
	if a, c := seen[origin.Answer], seen[origin.Cut]; a < of/11 || a > of/9 || c < of/60 || c > of/40 || late < of/120 || late > of/80 || !differ {
		t.Errorf("of %d requests: %v, %d late", of, seen, late)
	}
}

// BenchmarkGet is what a request costs, with the client that makes it.
func BenchmarkGet(b *testing.B) {
	for name, bandwidth := range map[string]int64{"unlimited": 0, "fast": 1e12} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "file"), content[:40_000], 0o644); err != nil {
				b.Fatal(err)
			}
			o, err := origin.Start(dir, origin.Options{Bandwidth: bandwidth})
			if err != nil {
				b.Fatal(err)
			}
			defer o.Close()
			b.SetBytes(40_000)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := http.Get(o.URL() + "/file")
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if n != 40_000 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
