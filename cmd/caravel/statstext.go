package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"caravel/prefetch"
	"caravel/store"
)

// report writes what was touched and what was done to where the user wants
// them; the tables go to w if they are wanted there.
func (o *lazyOpener) report(w io.Writer, tables bool) error {
	err := errors.Join(o.writeProfile(), o.writeCorState())
	if !tables && o.lazy.statsFile == "" {
		return err
	}
	s := o.snapshot()
	if tables {
		_, failed := io.WriteString(w, s.String())
		err = errors.Join(err, failed)
	}
	if o.lazy.statsFile == "" {
		return err
	}
	b, failed := json.MarshalIndent(s, "", "  ")
	if failed == nil {
		failed = writeReport(o.lazy.statsFile, append(b, '\n'))
	}
	return errors.Join(err, failed)
}

// String is the snapshot for people.
func (s snapshot) String() string {
	var b strings.Builder
	for _, img := range s.Images {
		img.print(&b)
	}
	fmt.Fprintf(&b, "memory: %s of %s\n", amount(s.Memory.Bytes), amount(s.Memory.Budget))
	table(&b, "fetched ahead", "fetched", "used", "unused")(func(row func(...any)) {
		for _, h := range []struct {
			class store.Class
			prefetch.Brought
		}{{store.Walk, s.Memory.Hinted.Walk}, {store.Profile, s.Memory.Hinted.Profile}, {store.ReadAhead, s.Memory.Hinted.ReadAhead}} {
			row(h.class, amount(h.Fetched), amount(h.Used), amount(h.Fetched-h.Used))
		}
	})
	if d := s.Disk; d != nil {
		fmt.Fprintf(&b, "cache on disk: %s of %s in %s\n", amount(d.Bytes), amount(d.Budget), d.Dir)
		table(&b, "", "hits", "misses", "kept", "evicted", "failed")(func(row func(...any)) {
			row("chunks", d.Hits, d.Misses, d.Kept, d.Evicted, d.Failed)
		})
	}
	for _, o := range s.Origins {
		o.print(&b)
	}
	fmt.Fprintf(&b, "in %s\n", seconds(s.Seconds))
	return b.String()
}

func (r imageReport) print(b *strings.Builder) {
	fmt.Fprintf(b, "image %s: %s in %d chunks, sidecar %s", r.Image, amount(r.Size), r.Chunks, r.Sidecar)
	if !r.WholeIndex {
		b.WriteString(", index not here whole")
	}
	if r.Materialised != nil {
		fmt.Fprintf(b, ", materialised: %s", showYesNo(*r.Materialised))
	}
	b.WriteByte('\n')
	table(b, "chunks read", "memory", "zeros", "file", "store", "waits", "waited", "bytes")(func(row func(...any)) {
		for class := range store.Classes {
			name := store.Class(class).String()
			if t, ok := r.Readers[name]; ok {
				row(name, t.Memory, t.Zeros, t.File, t.Store, t.Waits, seconds(t.Waited), amount(t.Bytes))
			}
		}
	})
	if len(r.Caches) > 0 {
		table(b, "from caches", "--cache", "cache on disk")(func(row func(...any)) {
			for class := range store.Classes {
				name := store.Class(class).String()
				if n, ok := r.Caches[name]; ok {
					row(name, n.Named, n.Disk)
				}
			}
		})
	}
	table(b, "background", "fetched", "read since", "there before", "left out")(func(row func(...any)) {
		row("profile", r.Profile.Fetched, "", r.Profile.Present, r.Profile.NoRoom+r.Profile.Failed)
		row("sweep", r.Sweep.Fetched, r.Sweep.Read, r.Sweep.Present, r.Sweep.Left)
	})
}

func (o originReport) print(b *strings.Builder) {
	fmt.Fprintf(b, "origin %s: %d at once, latency %s, 95 in 100 within %s, %d asked twice, %d made way for a reader\n",
		o.Where, o.Window, seconds(o.Latency), seconds(o.P95), o.Hedges, o.MadeWay)
	table(b, "fetched", "requests", "chunks", "bytes", "of the image", "joined", "cancelled", "retries", "failed")(func(row func(...any)) {
		for class := range store.Classes {
			name := store.Class(class).String()
			if n, ok := o.Classes[name]; ok {
				row(name, n.Requests, n.Chunks, amount(n.Stored), amount(n.Plain), n.Joined, n.Cancelled, n.Retries, n.Failed)
			}
		}
	})
}

// table writes a table with a title in its first column; fill adds the rows.
func table(w io.Writer, title string, columns ...string) (fill func(func(row func(cells ...any)))) {
	return func(rows func(row func(cells ...any))) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(t, "  %s\t%s\t\n", title, strings.Join(columns, "\t"))
		rows(func(cells ...any) {
			for _, c := range cells {
				fmt.Fprintf(t, "%v\t", c)
			}
			fmt.Fprintln(t)
		})
		t.Flush() // a strings.Builder takes everything
	}
}

// amount is a number of bytes for people.
func amount(n int64) string {
	value, unit := float64(n), "B"
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if value < 1000 {
			break
		}
		value, unit = value/1000, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Microsecond).String()
}
