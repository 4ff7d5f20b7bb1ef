package main

import (
	"io"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
)

// TestDesyncFlags has every flag of desync's commands, under each of its names, and with
// a value where it has one there: that of a switch stands behind "=" or is left out.
func TestDesyncFlags(t *testing.T) {
	const (
		global   = "config= digest= verbose "
		link     = "cache-repair r ca-cert= client-cert= client-key= concurrency= n= error-retry= e= error-retry-base-interval= b= trust-insecure t "
		store    = "store= s= "
		cached   = "cache= c= "
		ignoring = "ignore= ignore-chunks= "
		server   = "listen= l= log= authorization= cert= key= mutual-tls client-ca= writable w writeable "
	)
	tests := map[string]string{
		"make":           link + store + "chunk-size= m= print-stats",
		"extract":        link + store + cached + "in-place k seed= seed-dir= skip-invalid-seeds regenerate-invalid-seeds print-stats",
		"cat":            link + store + cached + "offset= o= length= l=",
		"chunk":          "chunk-size= m= start= S=",
		"chop":           link + store + ignoring,
		"cache":          link + store + cached + ignoring,
		"mtree":          link + store + cached + "index i",
		"list-chunks":    link,
		"info":           link + store + cached + "seed= chunks-info= format= f=",
		"inspect-chunks": link + store,
		"verify":         store + "repair r concurrency= n=",
		"verify-index":   link,
		"prune":          link + store + "yes y",
		"mount-index":    link + store + cached + "store-file= cor-file= cor-state-save= cor-state-init= cor-init-n=",
		"chunk-server":   link + store + cached + server + "store-file= uncompressed u skip-verify-read skip-verify-write encryption encryption-key= encryption-algorithm=",
		"index-server":   link + store + server,
		"config":         "write w",
	}
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	for name, flags := range tests {
		cmd := app.Command(name)
		if cmd == nil {
			if name != "mount-index" { // which is for Linux
				t.Errorf("there is no %s", name)
			}
			continue
		}
		table := flagTable(cmd.Flags)
		for _, flag := range strings.Fields(global + flags) {
			flag, valued := strings.CutSuffix(flag, "=")
			if name == "chunk" && flag == "config" {
				continue // nothing is reached
			}
			if f := table[flag]; f == nil || f.TakesValue() != valued {
				t.Errorf("%s %s is not as desync has it", name, dashed(flag))
			}
		}
	}
}

func TestCorRows(t *testing.T) {
	x := threeChunks(t)
	for bits, want := range map[string]string{"\x05": "02", "\x00": "", "\xff": "012"} {
		rows, err := corRows([]byte(bits), x)
		got := ""
		for _, row := range rows {
			got += string(rune('0' + row))
		}
		if err != nil || got != want {
			t.Errorf("%x: rows %s, %v", bits, got, err)
		}
	}
	for _, bits := range []string{"", "\x00\x00"} {
		if _, err := corRows([]byte(bits), x); err == nil || !strings.Contains(err.Error(), "not of this image") {
			t.Errorf("%x: %v", bits, err)
		}
	}
}

// threeChunks is an index of three chunks.
func threeChunks(t *testing.T) *index.Index {
	t.Helper()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.DefaultParams())
	for i := range 3 {
		if err := b.Append(chunker.ID{byte(i)}, 20_000); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index()
}
