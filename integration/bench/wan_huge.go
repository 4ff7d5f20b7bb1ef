//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"caravel/catar"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/internal/origin"
	"caravel/store"
	"caravel/store/open"
)

// What is huge: an image of 1 TiB in chunks of 64 KiB, whose index has 671 MB, and a
// tree of a million files.
const (
	hugeRows  = 1 << 24
	hugeChunk = 64 << 10
	hugeDirs  = 1000 // and as many files in each
)

// prepareHuge makes both beside what is served otherwise.
func (s *setting) prepareHuge() error {
	if err := s.hugeIndex(s.path("www", "huge.caibx")); err != nil {
		return err
	}
	archive := s.path("million.catar")
	if err := millionFiles(archive); err != nil {
		return err
	}
	defer os.Remove(archive)
	out, err := exec.Command(s.bin, "make", s.path("www", "million.caidx"), archive).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	_, err = os.Stat(s.path("www", "million.caidx.tree"))
	return err
}

// hugeIndex writes the index of an image in which one chunk is repeated.
func (s *setting) hugeIndex(path string) error {
	plain := make([]byte, hugeChunk)
	for i := range plain {
		plain[i] = byte(i * i >> 8)
	}
	id := chunker.SHA512_256.Sum(plain)
	w, err := open.Writer(s.path("www", "default.castr"), open.Options{})
	if err != nil {
		return err
	}
	c := store.NewChunk(id, chunker.SHA512_256, plain, nil)
	defer c.Release()
	if err := w.Put(context.Background(), c); err != nil {
		return err
	}
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.DefaultParams())
	for range hugeRows {
		if err := b.Append(id, hugeChunk); err != nil {
			return err
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = b.Index().WriteTo(f)
	return errors.Join(err, f.Close())
}

// millionFiles writes an archive of files of a few bytes, and of all times.
func millionFiles(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	e, err := catar.NewEncoder(w, feature.UID32|feature.NanoTime|feature.Permissions|feature.SHA512_256)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	times := rand.New(rand.NewPCG(1, 1)) // trees that are all too regular get no sidecar
	put := func(name string, mode uint32, content []byte) {
		n := &catar.Entry{Mode: mode, MTime: times.Int64(), Size: int64(len(content))}
		_ = e.Begin(name, n) // an error stays
		_, _ = e.Write(content)
	}
	put("", syscall.S_IFDIR|0o755, nil)
	for d := range hugeDirs {
		put(fmt.Sprintf("directory-%03d", d), syscall.S_IFDIR|0o755, nil)
		for i := range hugeDirs {
			put(fmt.Sprintf("file-%03d", i), syscall.S_IFREG|0o644, fmt.Appendf(nil, "%d in %d\n", i, d))
		}
		_ = e.End()
	}
	return errors.Join(e.End(), w.Flush(), f.Close())
}

// wanHuge opens them, over the link and from this disk.
func (s *setting) wanHuge() error {
	o, err := s.faraway(gigabit, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	fmt.Printf("\nwhat is huge, %v and 1 Gbit/s away; cold, from the start of the program\n", rtt)
	for _, c := range []struct{ name, goal, index string }{
		{"16.8 M chunks", "<= 0.3 s", o.URL() + "/huge.caibx"},
		{"16.8 M chunks, index here", "it is read whole", s.path("www", "huge.caibx")},
	} {
		if err := s.openHuge(o, c.name, c.goal, c.index); err != nil {
			return err
		}
	}
	return s.openMillion(o)
}

// openHuge reads 4 KiB in the middle of the image, and waits for the rest of the
// index.
func (s *setting) openHuge(o *origin.Origin, name, goal, index string) error {
	o.Reset()
	m, err := s.mountBy(s.bin, "mount", "--no-sweep", "--cache-dir=none", "--profile=none", index)
	if err != nil {
		return err
	}
	path, err := m.onlyFile()
	if err == nil {
		err = readAtOnce(path, hugeRows/2*hugeChunk)
	}
	first, requests := time.Since(m.began), o.Counts().Requests
	rest := max(settled(o, m.began, time.Second), first)
	if endErr := m.end(); err == nil {
		err = endErr
	}
	if err != nil {
		return err
	}
	row(name+", 4 KiB", goal, "%6.3f s, after %d requests", first.Seconds(), requests)
	row(name+", whole index", "<= 48 bytes a chunk", "%6.3f s, %4d MiB, %.1f bytes a chunk", rest.Seconds(), m.peak(), float64(m.most)/hugeRows)
	return nil
}

func readAtOnce(path string, off int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(make([]byte, 4096), off)
	return err
}

// openMillion lists all of the tree by its sidecar.
func (s *setting) openMillion(o *origin.Origin) error {
	o.Reset()
	m, err := s.mountBy(s.bin, "mount", "--no-sweep", "--cache-dir=none", "--profile=none", o.URL()+"/million.caidx")
	if err != nil {
		return err
	}
	shown, n := time.Since(m.began), 0
	err = filepath.WalkDir(m.dir, func(_ string, _ fs.DirEntry, err error) error {
		n++
		return err
	})
	listed := time.Since(m.began)
	requests := o.Counts().Requests
	if endErr := m.end(); err == nil {
		err = endErr
	}
	if err != nil {
		return err
	}
	row("a million files, mounted", "", "%6.3f s", shown.Seconds())
	row("a million files, all names", "<= 300 MiB", "%6.3f s, %d entries, %d requests, %4d MiB, %.0f bytes an entry",
		listed.Seconds(), n, requests, m.peak(), float64(m.most)/float64(n))
	return nil
}
