package origin_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
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
