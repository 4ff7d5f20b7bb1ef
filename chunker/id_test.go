package chunker_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"caravel/chunker"
)

func TestDigest(t *testing.T) {
	for _, tt := range []struct {
		digest chunker.Digest
		name   string
		plain  string
		want   string
	}{
		{chunker.SHA512_256, "sha512-256", "", "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"},
		{chunker.SHA512_256, "sha512-256", "abc", "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"},
		{chunker.SHA256, "sha256", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{chunker.SHA256, "sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	} {
		if got := tt.digest.Sum([]byte(tt.plain)); got.String() != tt.want {
			t.Errorf("%v of %q: got %v, want %s", tt.digest, tt.plain, got, tt.want)
		}
		h := tt.digest.New()
		h.Write([]byte(tt.plain))
		if got := chunker.ID(h.Sum(nil)); got.String() != tt.want {
			t.Errorf("%v of %q, running: got %v, want %s", tt.digest, tt.plain, got, tt.want)
		}
		if got, err := chunker.ParseDigest(tt.name); err != nil || got != tt.digest || got.String() != tt.name {
			t.Errorf("%q: got %v, %v", tt.name, got, err)
		}
	}
	if got, err := chunker.ParseDigest("default"); err != nil || got != chunker.SHA512_256 {
		t.Errorf("default: got %v, %v", got, err)
	}
	if _, err := chunker.ParseDigest("md5"); err == nil || err.Error() != `chunker: digest "md5": want sha512-256 or sha256` {
		t.Errorf("md5: got %v", err)
	}
}

func TestParseID(t *testing.T) {
	text := "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"
	want := chunker.SHA512_256.Sum(nil)
	for _, s := range []string{text, strings.ToUpper(text)} {
		if got, err := chunker.ParseID(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v", s, got, err)
		}
	}
	for s, why := range map[string]string{
		"":                           "not 0 characters",
		text[1:]:                     "not 63 characters",
		text + "0":                   "not 65 characters",
		"g" + text[1:]:               "invalid byte",
		strings.Repeat(" ", 64):      "invalid byte",
		strings.Repeat("\u00e9", 32): "invalid byte",
	} {
		if got, err := chunker.ParseID(s); err == nil || !strings.Contains(err.Error(), why) || got != (chunker.ID{}) {
			t.Errorf("%q: got %v, %v; want %q in it", s, got, err, why)
		}
	}
}

func TestIDInJSON(t *testing.T) {
	want := map[string]chunker.ID{"chunk": chunker.SHA256.Sum(nil)}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `{"chunk":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}` {
		t.Fatalf("got %s, %v", text, err)
	}
	var got map[string]chunker.ID
	if err := json.Unmarshal(text, &got); err != nil || got["chunk"] != want["chunk"] {
		t.Errorf("got %v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"chunk":"e3b0"}`), &got); err == nil {
		t.Error("a short ID is taken")
	}
}

// Many at once give what each one gives.
func TestSums(t *testing.T) {
	messages := make([][]byte, 3*chunker.SumsAtOnce+1)
	for i := range messages {
		messages[i] = bytes.Repeat([]byte{byte(i)}, i*i)
	}
	for _, d := range []chunker.Digest{chunker.SHA512_256, chunker.SHA256} {
		for n := range len(messages) + 1 {
			ids := make([]chunker.ID, n)
			d.Sums(ids, messages[:n])
			for i, id := range ids {
				if id != d.Sum(messages[i]) {
					t.Fatalf("%v: %d of %d: got %v", d, i, n, id)
				}
			}
		}
	}
}
