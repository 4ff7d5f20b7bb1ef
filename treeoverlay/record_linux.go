package treeoverlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// An Image is the tree that an overlay lies over.
type Image struct {
	ID   string // the same for the same tree and for no other, such as a digest
	Part string // which directory of it is shown; "": all
	Name string // where it was, for people
}

// A record says what a folder is.
type record struct {
	Format string `json:"format"`
	ID     string `json:"image"`
	Part   string `json:"part,omitempty"`
	Name   string `json:"location"`
	Writer string `json:"writer"` // overlayfs or fuse-overlayfs
}

const (
	recordName = "caravel-overlay"
	maxRecord  = 64 << 10
	format     = "caravel overlay 1"
)

// parseRecord reads a record.
func parseRecord(b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("not a record of an overlay: %w", err)
	}
	switch {
	case !strings.HasPrefix(r.Format, "caravel overlay "):
		return record{}, errors.New("not a record of an overlay")
	case r.Format != format:
		return record{}, fmt.Errorf("%q is of another version of caravel, which writes %q", r.Format, format)
	case r.ID == "" || r.Writer == "":
		return record{}, errors.New("does not say which image it is of, and who writes it")
	}
	return r, nil
}

// fits reports why what was written over one tree does not go over another, nil if it
// does.
func (r record) fits(over Image, writer string) error {
	switch {
	case r.ID != over.ID:
		return fmt.Errorf("lies over another image: %s (%s), not over %s (%s)", r.Name, r.ID, over.Name, over.ID)
	case r.Part != over.Part:
		return fmt.Errorf("lies over %s of the image, not over %s", part(r.Part), part(over.Part))
	case r.Writer != writer:
		return fmt.Errorf("was written by %s, whose form %s does not read", r.Writer, writer)
	}
	return nil
}

func part(p string) string {
	if p == "" {
		return "all"
	}
	return fmt.Sprintf("%q", p)
}
