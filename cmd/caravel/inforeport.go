package main

import (
	"encoding/hex"
	"io"

	"caravel/image"
)

// An infoReport is what info prints: desync's keys, in its order.
type infoReport struct {
	Total         int   `json:"total"`
	Unique        int64 `json:"unique"`
	InStore       int64 `json:"in-store"`
	InSeed        int64 `json:"in-seed"`
	InCache       int64 `json:"in-cache"`
	Needed        int64 `json:"not-in-seed-nor-cache"`
	Size          int64 `json:"size"`
	UnseededBytes int64 `json:"dedup-size-not-in-seed"`
	NeededBytes   int64 `json:"dedup-size-not-in-seed-nor-cache"`
	NeededPacked  int64 `json:"dedup-size-not-in-seed-nor-cache-compressed"`
	Min           int   `json:"chunk-size-min"`
	Avg           int   `json:"chunk-size-avg"`
	Max           int   `json:"chunk-size-max"`
	*infoMore           // nil: only what desync says
}

// infoMore is what desync does not say.
type infoMore struct {
	Kind        kind         `json:"kind"`
	Digest      string       `json:"digest"`       // the algorithm of the chunks' IDs
	IndexDigest string       `json:"index-digest"` // SHA-512/256, as --index-digest takes it
	Dedup       int64        `json:"dedup-size"`
	Repeated    int64        `json:"repeated-size"`
	InLocal     int64        `json:"in-local"`
	LocalBytes  int64        `json:"dedup-size-in-local"`
	FarBytes    int64        `json:"dedup-size-not-in-local"`
	Stores      []infoStored `json:"stores"`
}

// infoStored is what one place has of the image.
type infoStored struct {
	Store  string `json:"store"`
	Chunks int64  `json:"chunks"`
	Size   int64  `json:"size"`
}

func newInfoReport(u *image.Unique, seeded []bool, places []infoPlace, there [][]bool) *infoReport {
	cached := func(i int) bool { return anyOf(places, there, isCache, i) }
	unseeded := u.Tally(func(i int) bool { return !seeded[i] })
	needed := u.Tally(func(i int) bool { return !seeded[i] && !cached(i) })
	return &infoReport{
		Total:         u.Index.Len(),
		Unique:        int64(len(u.Rows)),
		InStore:       u.Tally(func(i int) bool { return anyOf(places, there, isNamed, i) }).Chunks,
		InSeed:        int64(len(u.Rows)) - unseeded.Chunks,
		InCache:       u.Tally(cached).Chunks,
		Needed:        needed.Chunks,
		Size:          u.Index.Size(),
		UnseededBytes: unseeded.Bytes,
		NeededBytes:   needed.Bytes,
		Min:           u.Index.Params.Min,
		Avg:           u.Index.Params.Avg,
		Max:           u.Index.Params.Max,
	}
}

func newInfoMore(u *image.Unique, places []infoPlace, there [][]bool) *infoMore {
	all := u.Tally(func(int) bool { return true })
	local := u.Tally(func(i int) bool { return anyOf(places, there, isHere, i) })
	sum := u.Index.Sum()
	m := &infoMore{
		Kind:        kindOfIndex(u.Index),
		Digest:      u.Index.Digest().String(),
		IndexDigest: hex.EncodeToString(sum[:]),
		Dedup:       all.Bytes,
		Repeated:    u.Index.Size() - all.Bytes,
		InLocal:     local.Chunks,
		LocalBytes:  local.Bytes,
		FarBytes:    all.Bytes - local.Bytes,
		Stores:      []infoStored{},
	}
	for i, p := range places {
		has := u.Tally(func(place int) bool { return there[i][place] })
		m.Stores = append(m.Stores, infoStored{p.where, has.Chunks, has.Bytes})
	}
	return m
}

// An infoLine is a line of the plain format.
type infoLine struct {
	label string
	value any
}

// plain prints the report with desync's labels.
func (r *infoReport) plain(w io.Writer) error {
	lines := []infoLine{
		{"Blob size", r.Size},
		{"Size of deduplicated chunks not in seed", r.UnseededBytes},
		{"Size of deduplicated chunks not in seed nor cache", r.NeededBytes},
		{"Total chunks", r.Total},
		{"Unique chunks", r.Unique},
		{"Chunks in store", r.InStore},
		{"Chunks in seed", r.InSeed},
		{"Chunks in cache", r.InCache},
		{"Chunks not in seed nor cache", r.Needed},
		{"Compressed chunks not in seed nor cache", r.NeededPacked},
		{"Chunk size min", r.Min},
		{"Chunk size avg", r.Avg},
		{"Chunk size max", r.Max},
	}
	if m := r.infoMore; m != nil {
		lines = append(lines,
			infoLine{"Kind", m.Kind},
			infoLine{"Digest", m.Digest},
			infoLine{"Index digest", m.IndexDigest},
			infoLine{"Size of deduplicated chunks", m.Dedup},
			infoLine{"Size of what repeats", m.Repeated},
			infoLine{"Chunks on this machine", m.InLocal},
			infoLine{"Size of those", m.LocalBytes},
			infoLine{"Size of those that are not on this machine", m.FarBytes})
		for _, s := range m.Stores {
			lines = append(lines, infoLine{"Chunks in " + s.Store, s.Chunks}, infoLine{"Size of those in " + s.Store, s.Size})
		}
	}
	return printLines(w, lines)
}
