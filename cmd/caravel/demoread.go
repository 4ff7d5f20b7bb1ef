package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

// How much of the image the demo reads: here and there, and in one go.
const (
	demoSpots = 8
	demoRun   = 4 << 20
)

// read reads parts of the image from r, compares them with disk.img and says
// what came over the link for that.
func (d *demonstration) read(r io.ReaderAt) error {
	original, err := os.Open(d.path("disk.img"))
	if err != nil {
		return err
	}
	defer original.Close()
	st, err := original.Stat()
	if err != nil {
		return err
	}
	// The same places in each run: what is shown shall be comparable.
	places := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	for range demoSpots {
		off := places.Int64N(st.Size()-4096) &^ 4095
		if err := sameRange(r, original, off, 4096); err != nil {
			return err
		}
	}
	d.say("    %d times 4 KiB here and there: right (%.2f s)", demoSpots, time.Since(began).Seconds())
	began = time.Now()
	if err := sameRange(r, original, st.Size()/2&^4095, min(demoRun, st.Size()/2)); err != nil {
		return err
	}
	d.say("    %d MiB in one go: right (%.2f s)", demoRun>>20, time.Since(began).Seconds())
	d.travelled()
	return nil
}

// sameRange compares n bytes at off.
func sameRange(r, original io.ReaderAt, off, n int64) error {
	got, want := make([]byte, n), make([]byte, n)
	if _, err := r.ReadAt(got, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := original.ReadAt(want, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes at %d are not those of the original", n, off)
	}
	return nil
}

// sameFile compares two files.
func sameFile(a, b string) (bool, error) {
	f, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer g.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errX := io.ReadFull(f, x)
		m, errY := io.ReadFull(g, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errX != nil || errY != nil {
			return ended(errX) && ended(errY), nil
		}
	}
}

func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
