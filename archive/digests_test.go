package archive

import (
	"bytes"
	"crypto/sha512"
	"testing"

	"caravel/catar"
)

// TestDigests digests what was decoded by packing it again.
func TestDigests(t *testing.T) {
	archive := sample(t, 0o755)
	d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{})
	at := &Entries{Decoder: d, All: nodes(d, "")}
	for f, err := range at.All {
		if err != nil {
			t.Fatal(err)
		}
		if f.IsDir() {
			continue
		}
		node := *f.Node
		payload, link, err := at.Digests(&node)
		if err != nil {
			t.Fatal(err)
		}
		end := node.Body + node.Size
		if want := sha512.Sum512_256(archive[node.Head:end]); want != link {
			t.Errorf("%s: %v, want %x", f.Path, link, want)
		}
		if want := sha512.Sum512_256(archive[node.Body:end]); want != payload {
			t.Errorf("%s: %v, want %x", f.Path, payload, want)
		}
	}
}
