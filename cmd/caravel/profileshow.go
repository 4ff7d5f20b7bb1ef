package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"caravel/index"
	"caravel/prefetch"
)

// A profileReport is what profile show prints.
type profileReport struct {
	Index     string          `json:"index"` // SHA-512/256 of the file
	Chunks    int             `json:"chunks"`
	Runs      int             `json:"runs"`
	Bytes     int64           `json:"bytes"`
	Elsewhere int             `json:"elsewhere"`       // chunks of other versions of the image
	Image     *profileOfImage `json:"image,omitempty"` // what --index names
}

// A profileOfImage says how much of a profile is in an image.
type profileOfImage struct {
	Same   bool  `json:"same"` // the index is the one that it was recorded with
	Chunks int   `json:"chunks"`
	Bytes  int64 `json:"bytes"`
}

func profileShow(ctx context.Context, std streams, files []string, opt profileOptions) error {
	switch {
	case opt.out != "":
		return usagef("--output goes with merge")
	case len(files) != 1:
		return usagef("show wants one FILE, not %d", len(files))
	}
	from, err := newOpener(std, opt.source, opt.log.logger(std.err))
	if err != nil {
		return err
	}
	defer from.Close()
	p, err := from.profile(ctx, files[0])
	if err != nil {
		return err
	}
	report := reportProfile(p)
	if opt.index != "" {
		x, err := from.index(ctx, opt.index)
		if err != nil {
			return err
		}
		report.compare(p, x)
	}
	if opt.json {
		return json.NewEncoder(std.out).Encode(report)
	}
	return report.print(std.out)
}

func reportProfile(p *prefetch.Profile) *profileReport {
	r := &profileReport{
		Index:  hex.EncodeToString(p.Index[:]),
		Chunks: p.Len(),
		Runs:   p.Runs(),
		Bytes:  p.Bytes(),
	}
	for c := range p.Chunks() {
		if c.Start < 0 {
			r.Elsewhere++
		}
	}
	return r
}

// compare adds what an image has of the profile.
func (r *profileReport) compare(p *prefetch.Profile, x *index.Index) {
	rows := p.Rows(x)
	r.Image = &profileOfImage{Same: p.Index == x.Sum(), Chunks: len(rows)}
	for _, row := range rows {
		r.Image.Bytes += int64(x.Chunk(row).Size)
	}
}

func (r *profileReport) print(w io.Writer) error {
	text := fmt.Sprintf("Index: %s\nChunks: %d\nRuns: %d\nBytes: %d\n", r.Index, r.Chunks, r.Runs, r.Bytes)
	if r.Elsewhere > 0 {
		text += fmt.Sprintf("Of other versions: %d chunks\n", r.Elsewhere)
	}
	if r.Image != nil {
		image := "another image"
		if r.Image.Same {
			image = "the image it was recorded with"
		}
		text += fmt.Sprintf("In %s: %d chunks, %d bytes\n", image, r.Image.Chunks, r.Image.Bytes)
	}
	_, err := io.WriteString(w, text)
	return err
}
