package http_test

import (
	"context"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"caravel/store"
	"caravel/store/http"
	"caravel/store/storetest"
)

func open(t *testing.T, objects map[string][]byte) store.Blobs {
	contents := map[string]string{}
	for name, content := range objects {
		contents["images/"+name] = string(content)
	}
	return readOnly{newWeb(t, files(t, contents).URL+"/images", http.Options{})}
}

// readOnly is a Web of a server that takes nothing, whatever is tried.
type readOnly struct{ reading }

type reading interface {
	store.Blobs
	store.Statter
	store.Refresher
	store.Locator
}

func TestBlobs(t *testing.T) { storetest.RunBlobs(t, open) }

func TestStore(t *testing.T) {
	for _, form := range []store.Form{{}, {Compression: store.None}, {Either: true}} {
		t.Run(fmt.Sprintf("%+v", form), func(t *testing.T) {
			storetest.RunStore(t, form, func(t *testing.T, objects map[string][]byte) store.Store {
				return store.Chunks(open(t, objects), form)
			})
		})
	}
}

func Example() {
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		io.WriteString(w, "you asked for "+r.URL.Path)
	}))
	defer server.Close()
	web, err := http.New(server.URL+"/images", http.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	body, info, err := web.Open(context.Background(), "disk.caibx", store.Range{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	fmt.Printf("%d bytes: %s, %v\n", info.Size, text, err)
	// Output: 32 bytes: you asked for /images/disk.caibx, <nil>
}

// A chunk of 40 KB, beside what net/http alone takes for it on the same
// server.
func BenchmarkOpen(b *testing.B) {
	const size = 40_000
	content := make([]byte, size)
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(content)
	}))
	b.Cleanup(server.Close)
	client := http.NewClient(http.Options{})
	b.Cleanup(client.CloseIdleConnections)
	web, err := http.New(server.URL, http.Options{Client: client})
	if err != nil {
		b.Fatal(err)
	}
	opens := map[string]func() (io.ReadCloser, error){
		"web": func() (io.ReadCloser, error) {
			body, _, err := web.Open(b.Context(), "1a2b/1a2b", store.Range{})
			return body, err
		},
		"net/http": func() (io.ReadCloser, error) {
			resp, err := client.Get(server.URL + "/1a2b/1a2b")
			if err != nil {
				return nil, err
			}
			return resp.Body, nil
		},
	}
	for name, open := range opens {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, size+1)
				for pb.Next() {
					body, err := open()
					if err != nil {
						b.Error(err)
						return
					}
					if n, err := io.ReadFull(body, buf); n != size || err != io.ErrUnexpectedEOF {
						b.Errorf("%d bytes, error %v", n, err)
					}
					body.Close()
				}
			})
		})
	}
}
