package image_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/image"
	"caravel/store"
	"caravel/store/storetest"
)

// What is copied from a file is what make would have stored; a file that holds anything
// else is refused.
func TestInFile(t *testing.T) {
	data := bytes.Repeat(bytes.Join(storetest.Plains(), nil), 2)
	made, err := image.Make(t.Context(), bytes.NewReader(data), nil, image.MakeOptions{Params: small})
	if err != nil {
		t.Fatal(err)
	}
	x := made.Index
	into := func(file []byte) (image.Copied, map[string][]byte, error) {
		m := storetest.NewMemory(nil)
		w, err := store.Writable(m, store.Form{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := image.Copy(t.Context(), w, image.InFile(bytes.NewReader(file), "the file", x), image.Distinct(x, map[chunker.ID]bool{}), image.CopyOptions{InFlight: 2})
		return got, m.Objects(), err
	}
	got, objects, err := into(append(bytes.Clone(data), "more"...))
	if err != nil || got.Copied != int64(len(objects)) || got.Copied == 0 {
		t.Errorf("copied %+v, %d objects, error %v", got, len(objects), err)
	}
	s := store.Verify(store.Chunks(storetest.NewMemory(objects), store.Form{}))
	var out bytes.Buffer
	if err := image.Stream(t.Context(), x, s, &out, 0, x.Size(), image.StreamOptions{}); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes, error %v", out.Len(), err)
	}

	spoilt := bytes.Clone(data)
	spoilt[len(spoilt)/2]++
	if _, _, err := into(spoilt); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "the file at ") {
		t.Errorf("spoilt: %v", err)
	}
	if _, _, err := into(data[:len(data)-1]); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "the file: ends at") {
		t.Errorf("short: %v", err)
	}
	other := storetest.Want([]byte("in no image"))
	if _, err := image.InFile(bytes.NewReader(data), "the file", x).Get(t.Context(), other); !errors.Is(err, store.ErrMissing) {
		t.Errorf("another chunk: %v", err)
	}
}
