//go:build unix

package diskcache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"caravel/chunker"
)

// Without its usage file, or with another's nonsense, the cache counts anew.
func TestUsageIsFoundOutAgain(t *testing.T) {
	for _, content := range []string{"", "nonsense", string(usage{total: -5}.encode()), string(usage{total: 1 << 61}.encode()), string(make([]byte, 1000))} {
		c := openSmall(t, 4<<20)
		keep(t, c, noise(1, 500_000))
		if err := os.WriteFile(filepath.Join(c.path, "usage"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Open(c.path, Options{Size: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		want := settled(t, again)
		for p := again.enter(); ; {
			u, ok := p.updateUsage(func(u usage, _ bool) usage { return u })
			if ok && u.counted != 0 { // the other janitor may be at it
				if diff := u.total - want; diff < -4096 || diff > 4096 {
					t.Errorf("%q: counted %d bytes, there are %d", content, u.total, want)
				}
				again.leave(p)
				break
			}
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A process that is killed leaves the count too high, never too low.
func TestLeaveIsTakenAhead(t *testing.T) {
	c := openSmall(t, 64<<20)
	for i := range 100 {
		keep(t, c, noise(i, 10_000))
		p := c.enter()
		u, ok := p.updateUsage(func(u usage, _ bool) usage { return u })
		c.leave(p)
		if files := int64(i+1) * onDisk(10_000+headSize); !ok || u.total < files || u.total > files+2*c.ledger.step {
			t.Fatalf("%d bytes on disk, the usage file says %d", files, u.total)
		}
	}
	if err := c.Remove("none"); err != nil {
		t.Error(err)
	}
}

// A clock that is set back does not make an outage longer.
func TestOutage(t *testing.T) {
	var o outage
	if o.down() || o.end() {
		t.Error("down before anything went wrong")
	}
	if o.begin(); !o.down() {
		t.Error("it did not begin")
	}
	for _, later := range []time.Duration{-time.Second, 2 * rest, 1000 * time.Hour} {
		if o.until.Store(time.Now().Add(later).UnixNano()); o.down() {
			t.Errorf("down until %v from now", later)
		}
	}
	if !o.end() || o.end() {
		t.Error("it ends once")
	}
}

func TestRemoveGivesBack(t *testing.T) {
	c := openSmall(t, 64<<20)
	content := noise(1, 10<<20)
	if err := errors.Join(c.WriteFile("a", content), c.WriteFile("a", content)); err != nil {
		t.Fatal(err)
	}
	if got := c.Stats().Bytes; got < 10<<20 || got > 11<<20 {
		t.Errorf("%d bytes for a file of 10 MiB that was replaced", got)
	}
	if err := errors.Join(c.Remove("a"), c.Remove("a")); err != nil {
		t.Fatal(err)
	}
	if got := c.Stats().Bytes; got != 0 {
		t.Errorf("%d bytes, all was removed", got)
	}
}

// FuzzParse: what is no chunk's or usage's file is found out, the rest is what
// was written.
func FuzzParse(f *testing.F) {
	f.Add(append(head(plainForm), "plain"...))
	f.Add(append(head(packedForm), "\x28\xb5\x2f\xfd"...))
	f.Add(usage{total: 5, counted: 6}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if form, rest, err := parse(b); err == nil && !bytes.Equal(append(head(form), rest...), b) {
			t.Errorf("%x: form %d", b, form)
		}
		if u, ok := decodeUsage(b); ok && !bytes.Equal(u.encode(), b) {
			t.Errorf("%x: %+v", b, u)
		}
	})
}

// BenchmarkWalk looks at 5000 chunks, as a count or an eviction does.
func BenchmarkWalk(b *testing.B) {
	c, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	p := c.enter()
	defer c.leave(p)
	const files = 5000
	for i := range files {
		id := chunker.SHA256.Sum(noise(i, 8))
		if _, err := p.write(slot{id: id}.name(), []byte("x")); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		p.walk(func(found) bool { n++; return true })
		if n != files {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/files, "ns/file")
}
