package catar_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/feature"
)

// again decodes an archive and encodes what comes of it.
func again(archive []byte) ([]byte, error) {
	var out bytes.Buffer
	d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{})
	var e *catar.Encoder
	for open := 0; ; {
		n, err := d.Next()
		if err != nil && err != io.EOF {
			return nil, err
		}
		if e == nil {
			if e, err = catar.NewEncoder(&out, d.Flags()); err != nil {
				return nil, fmt.Errorf("encoder: %w", err)
			}
		}
		depth := 0
		if n != nil {
			depth = n.Depth
		}
		for ; open > depth; open-- {
			if err := e.End(); err != nil {
				return nil, fmt.Errorf("encoder: %w", err)
			}
		}
		if n == nil {
			return out.Bytes(), nil
		}
		if err := e.Begin(n.Name, &n.Entry); err != nil {
			return nil, fmt.Errorf("encoder: %w", err)
		}
		if n.IsDir() {
			open++
		}
		if _, err := io.Copy(e, d); err != nil {
			return nil, err
		}
	}
}

// refused returns what is wrong with an archive; nil: nothing.
func refused(r io.Reader) error {
	d := catar.NewDecoder(r, catar.DecoderOptions{})
	for {
		if _, err := d.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// valid are those of testdata/malformed that have no fault, and show that it is
// the faults of the others that they are refused for.
var valid = []string{
	"good", "empty-dir", "fifo-directly-followed", "xattr-ok", "depth-62", "depth-63", "acl-ok", "default-ok",
}

// vectors are archives by their names: what casync wrote, and what it reads.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.catar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range valid {
		files = append(files, "testdata/malformed/"+name+".catar")
	}
	found := map[string][]byte{}
	for _, f := range files {
		found[filepath.Base(f)] = read(t, f)
	}
	z, err := gzip.NewReader(bytes.NewReader(read(t, "testdata/many.catar.gz")))
	if err != nil {
		t.Fatal(err)
	}
	if found["many.catar"], err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	if len(found) < 30 {
		t.Fatalf("only %d vectors", len(found))
	}
	return found
}

func TestWrittenBackByteForByte(t *testing.T) {
	for name, archive := range vectors(t) {
		got, err := again(archive)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got, archive) {
			at := 0
			for at < min(len(got), len(archive)) && got[at] == archive[at] {
				at++
			}
			t.Errorf("%s: %d bytes, not %d; they differ from %d on", name, len(got), len(archive), at)
		}
	}
}

// What each of the malformed archives is refused for.
var faults = map[string]string{
	"acl-dup":                                 `offset 82: entry "a": ACL: the entry of 1 "" is not in order`,
	"acl-group-before-user":                   "offset 178: ACL_USER is repeated, or out of order",
	"acl-no-group-obj":                        `offset 82: entry "a": ACL with names but without a mask`,
	"acl-perm-8":                              "offset 146: ACL_USER: permission 010, above 7",
	"acl-unsorted":                            `offset 82: entry "a": ACL: the entry of 1 "" is not in order`,
	"default-acl-on-file":                     `offset 82: entry "a": default ACL of a regular file`,
	"default-user-without-mask":               `offset 82: entry "a": default ACL with names but without a mask`,
	"depth-64":                                `offset 5230: "d" is 65 levels deep, above 64`,
	"device-major-4096":                       `offset 82: entry "a": device 4096:0`,
	"device-without-record":                   "offset 146: GOODBYE where the content of a device should be",
	"duplicate-names":                         `offset 164: FILENAME: "a" comes twice`,
	"empty-file":                              "offset 0: truncated where an ENTRY should be",
	"empty-name":                              "offset 64: FILENAME of 17 bytes, not 18 to 272",
	"entry-size-72":                           "offset 0: ENTRY of 72 bytes, not 64",
	"fcaps-twice":                             "offset 182: FCAPS is repeated, or out of order",
	"fcaps-without-flag":                      "offset 146: FCAPS in an archive without fcaps",
	"feature-flags-differ":                    "offset 82: ENTRY: flags 0x2000000000001f0e in an archive with 0x2000000000001f0a",
	"feature-flags-not-normal":                "offset 0: ENTRY: flags 0x2000000000001f2a: not normalized, which would be 0x2000000000001f22",
	"file-without-payload":                    "offset 146: GOODBYE where the content of a regular file should be",
	"filename-size-huge":                      "offset 64: FILENAME of 1099511627776 bytes, not 18 to 272",
	"filename-without-entry":                  "offset 82: FILENAME where an ENTRY should be",
	"flags-on-without-feature":                "offset 82: ENTRY: flags 0x10000, of which the archive's features keep 0x0 in a regular file",
	"goodbye-missing-item":                    "offset 264: GOODBYE of 64 bytes, not 88 for 2 children",
	"goodbye-wrong-hash":                      "offset 280: GOODBYE: item 0 of 2 is [0x64 0x64 0x9007695395e7df8e], not [0x64 0x64 0x9007695395e7df8f]",
	"goodbye-wrong-offset":                    "offset 280: GOODBYE: item 0 of 2 is [0x6c 0x64 ",
	"goodbye-wrong-order":                     "offset 280: GOODBYE: item 0 of 2 is [0xc8 0x64 ",
	"goodbye-wrong-tail-marker":               "offset 328: GOODBYE: tail [0x108 0x58 0x57446fa533702942], not",
	"goodbye-wrong-tail-offset":               "offset 328: GOODBYE: tail [0x109 0x58 ",
	"goodbye-wrong-tail-size":                 "offset 328: GOODBYE: tail [0x108 0x70 ",
	"group-before-user":                       "offset 166: USER is repeated, or out of order",
	"mode-type-0":                             "offset 82: ENTRY: mode 0644 has no known type",
	"mode-with-high-bits":                     "offset 82: ENTRY: mode 04100644 has bits beyond type and permissions",
	"mtime-not-truncated":                     "offset 82: ENTRY: time 1000000001 ns, of which the archive's features keep 1000000000",
	"name-256-bytes":                          "offset 64: FILENAME of 273 bytes, not 18 to 272",
	"name-300-bytes":                          "offset 64: FILENAME of 317 bytes, not 18 to 272",
	"name-dot":                                `offset 64: FILENAME: the name "." is not one of a child`,
	"name-dotdot":                             `offset 64: FILENAME: the name ".." is not one of a child`,
	"name-not-terminated":                     "offset 64: FILENAME: no NUL at the end",
	"name-with-nul":                           "offset 64: FILENAME: a NUL at byte 1 of 4",
	"name-with-slash":                         `offset 64: FILENAME: the name "a/b" has a slash`,
	"payload-size-huge":                       `offset 228: truncated in the payload of "a"`,
	"record-size-0":                           "offset 146: PAYLOAD of 0 bytes, below 16",
	"root-is-a-regular-file":                  "offset 0: ENTRY: the root is a regular file",
	"symlink-empty-target":                    "offset 146: SYMLINK of 17 bytes, not 18 to 4112",
	"symlink-mode-0755":                       "offset 82: ENTRY: mode 0120755, of which the archive's features keep 0120777",
	"symlink-with-payload":                    "offset 146: PAYLOAD where the content of a symbolic link should be",
	"trailing-byte":                           "offset 352: bytes after the end of the root",
	"trailing-second-archive":                 "offset 352: bytes after the end of the root",
	"truncated-before-goodbye":                "offset 264: truncated in a directory, before its GOODBYE",
	"truncated-in-goodbye":                    "offset 328: truncated in a GOODBYE of 88 bytes",
	"truncated-in-header":                     "offset 0: truncated in a record: ENTRY of 64 bytes, of which there are 40",
	"truncated-in-payload":                    "offset 164: truncated in the header of a record",
	"uid-2-32-1":                              "offset 82: ENTRY: owner 4294967295, which means none",
	"uid-65535-32bit":                         "offset 82: ENTRY: owner 65535, which means none",
	"unknown-feature-flag":                    "offset 0: ENTRY: flags 0x2000010000001f0a: unknown bits 0x10000000000",
	"unknown-record":                          "offset 146: no record has the type 0x1122334455667788",
	"unsorted-names":                          `offset 164: FILENAME: "a" comes after "b"`,
	"user-bad-chars":                          `offset 82: entry "a": user: name "a.b" has '.' in it`,
	"user-digits":                             `offset 82: entry "a": user: name "123" has '1' in it`,
	"user-record-without-flag":                "offset 146: USER in an archive without user-names",
	"user-root":                               `offset 82: entry "a": user: name "root", which goes without saying`,
	"user-twice":                              "offset 169: USER is repeated, or out of order",
	"xattr-after-acl":                         "offset 170: XATTR is repeated, or out of order",
	"xattr-after-fcaps":                       "offset 182: XATTR is repeated, or out of order",
	"xattr-duplicate":                         `offset 82: entry "a": extended attribute "user.a" comes twice`,
	"xattr-no-nul":                            "offset 146: XATTR: no NUL behind the name",
	"xattr-other-namespace":                   `offset 82: entry "a": extended attribute "security.evil" is neither of user nor of trusted`,
	"xattr-unsorted":                          `offset 82: entry "a": extended attribute "user.a" comes after "user.b"`,
	"symlink-then-directory-of-the-same-name": `offset 180: FILENAME: "a" comes twice`,
}

func TestMalformedArchivesAreRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/malformed/*.catar")
	if err != nil || len(files) != len(faults)+len(valid) {
		t.Fatalf("%d files for %d faults, error %v", len(files), len(faults), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".catar")
		if slices.Contains(valid, name) {
			continue
		}
		want, known := faults[name]
		if err := refused(bytes.NewReader(read(t, f))); !known || err == nil || !strings.HasPrefix(err.Error(), "catar: "+want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
		// A file system does not seek everywhere.
		file, err := os.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := refused(file); err == nil || !strings.HasPrefix(err.Error(), "catar: "+want) {
			t.Errorf("%s, as a file: got %v, want %s", name, err, want)
		}
		file.Close()
	}
}

// Whatever is missing at the end, it is noticed.
func TestTruncatedArchivesAreRefused(t *testing.T) {
	for _, name := range []string{"tree.default.catar", "small.catar", "desync/special.catar"} {
		archive := read(t, "testdata/"+name)
		for n := 0; n < len(archive); n += 1 + len(archive)/2000 {
			seek := refused(bytes.NewReader(archive[:n]))
			pipe := refused(onlyReader{bytes.NewReader(archive[:n])})
			if seek == nil || pipe == nil || seek.Error() != pipe.Error() || !strings.Contains(seek.Error(), "truncated") {
				t.Fatalf("%s, %d bytes: error %v where one can seek, %v in a pipe", name, n, seek, pipe)
			}
		}
	}
}

type onlyReader struct{ io.Reader }

// What desync does otherwise than casync; docs/formats.md, section 8.
func TestDesync(t *testing.T) {
	tests := []struct{ name, want string }{
		// A FIFO in it, another one and a socket in d, attributes of a link and
		// in the namespace security, an empty one, one with a NUL in it.
		{"special", `0 "" 40755; 1 "d" 40755; 2 "b" 100644; 1 "empty" 100644; ` +
			`1 "f" 100644 security.foo="bar" user.a="x" user.empty="" user.nul="\x00A"; ` +
			`1 "link" 120777 trusted.l="bar"; 1 "null" 20644; `},
		{"unsorted", `0 "" 40755; 1 "f" 100644; 1 "d" 40755; 2 "b" 100644; 1 "empty" 100644; 1 "link" 120777; `},
		{"collision", `0 "" 40755; 1 "a" 100644; 1 "b" 100644; 1 "c" 100644; ` +
			`1 "tIW_WszBowK" 100644; 1 "xzFQLlRJoRP" 100644; `},
	}
	for _, tt := range tests {
		archive := read(t, "testdata/desync/"+tt.name+".catar")
		for _, behind := range []string{"", "x"} {
			if got := describe(t, append(archive, behind...)); got != tt.want {
				t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
			}
		}

		// The same under other flags is another matter.
		old, other := appendU64(nil, uint64(feature.Desync)), appendU64(nil, uint64(feature.Desync&^feature.ExcludeFile))
		if err := refused(bytes.NewReader(bytes.ReplaceAll(archive, old, other))); err == nil {
			t.Errorf("%s: accepted with other flags", tt.name)
		}
	}
}

func TestDesyncHasNoDuplicatesEither(t *testing.T) {
	file := appendFile(nil, feature.Desync, "hi")
	archive := directory(feature.Desync, child{"b", file}, child{"a", file}, child{"b", file})
	if err := refused(bytes.NewReader(archive)); err == nil || !strings.Contains(err.Error(), `"b" comes twice`) {
		t.Error(err)
	}
}

// describe lists the nodes of an archive.
func describe(t *testing.T, archive []byte) string {
	t.Helper()
	var s strings.Builder
	d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{})
	for {
		n, err := d.Next()
		if err == io.EOF {
			return s.String()
		}
		if err != nil {
			t.Fatalf("%s%v", &s, err)
		}
		fmt.Fprintf(&s, "%d %q %o", n.Depth, n.Name, n.Mode)
		for _, x := range n.XAttrs {
			fmt.Fprintf(&s, " %s=%q", x.Name, x.Value)
		}
		s.WriteString("; ")
	}
}
