package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	badIndexes = "../index/testdata/malformed"
	badChunks  = "../store/testdata/chunk"

	// enough is more memory than any of these cases needs (Go's runtime takes
	// most of it), and less than what they claim to be, in KiB.
	enough = 128 << 10
)

// bounded runs caravel with no more than enough memory.
func bounded(t testing.TB, stdin *os.File, args ...string) result {
	t.Helper()
	limit := fmt.Sprintf(`ulimit -d %d; exec "$0" "$@"`, enough)
	return runWith(t, func(c *exec.Cmd) {
		if stdin != nil {
			c.Stdin = stdin
		}
	}, "sh", append([]string{"-c", limit, caravel}, args...)...)
}

// indexed is the text that the files in badIndexes were the index of.
func indexed() []byte {
	words := strings.Fields("the quick brown fox jumps over a lazy dog and then back again while lines of text repeat")
	var b []byte
	for i := uint64(0); len(b) < 1<<20; i++ {
		for _, x := range sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("text"), i)) {
			b = append(b, words[int(x)%len(words)]...)
			b = append(b, " \n"[map[bool]int{true: 1}[x%11 == 0]])
		}
	}
	return b[:1<<20]
}

// aPlace begins what is said of a malformed index: where in it.
var aPlace = regexp.MustCompile(`^caravel: \S+: index: (offset \d+: |flags 0x|chunker: sizes \d+:|\d+ bytes long)`)

// TestMalformedIndexes gives every command every index that a correct reader
// refuses.
func TestMalformedIndexes(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("text"), indexed(), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, caravel, "make", "--no-sync", "--store="+path("st.castr"), path("text.caibx"), path("text"))
	holds(t, path("text.caibx"), read(t, filepath.Join(badIndexes, "good.caibx")))
	files, err := filepath.Glob(badIndexes + "/*.caibx")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	// What is wrong with these shows when their chunks are fetched.
	byChunk := map[string]string{"flags-no-sha512-bit": "digest mismatch", "offset-shifted-1": "bytes", "wrong-chunk-id": "not in"}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".caibx")
		out := path("out")
		for _, args := range [][]string{
			{"list-chunks", file},
			{"list-chunks", "-"},
			{"cat", "--store=" + path("st.castr"), file},
			{"digest", "--store=" + path("st.castr"), file},
			{"extract", "--store=" + path("st.castr"), file, out},
		} {
			t.Run(name+"/"+args[0]+map[bool]string{true: "-stdin"}[args[len(args)-1] == "-"], func(t *testing.T) {
				stdin, err := os.Open(file)
				if err != nil {
					t.Fatal(err)
				}
				defer stdin.Close()
				r := bounded(t, stdin, args...)
				why, inChunk := byChunk[name]
				switch {
				case name == "good" || inChunk && args[0] == "list-chunks":
					if r.status != 0 || r.stderr != "" {
						t.Errorf("status %d: %s", r.status, r.stderr)
					}
				case inChunk:
					complaint(t, r, "image: bytes ", "store: chunk ", why, "st.castr")
				default:
					line := complaint(t, r, args[len(args)-1-len(args)/4]+": index: ")
					if !aPlace.MatchString(line) {
						t.Errorf("no place in: %s", line)
					}
					if r.stdout != "" {
						t.Errorf("%d bytes on standard output", len(r.stdout))
					}
				}
			})
		}
		if name == "good" {
			holds(t, out, indexed())
			os.Remove(out)
		}
		absent(t, out)
	}
}

// TestMalformedIndexIsNotServed gives commands that stay an index that is none:
// they end before anything is mounted or listened on.
func TestMalformedIndexIsNotServed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"empty", "type-wrong", "tail-marker", "decreasing"} {
		file := filepath.Join(badIndexes, name+".caibx")
		complaint(t, within(t, 10*time.Second, "nbd-server", "--store="+dir, "--socket="+filepath.Join(dir, "sock"), file), file+": index: ")
		if _, err := os.Stat("/dev/fuse"); err == nil {
			complaint(t, within(t, 10*time.Second, "mount", "--store="+dir, file, filepath.Join(dir, "mnt")), file+": index: ")
		}
		clean(t, dir)
		absent(t, filepath.Join(dir, "mnt"))
	}
}

// TestMalformedChunks puts every chunk file that a correct reader refuses in
// the place of a good one.
func TestMalformedChunks(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	var lines bytes.Buffer
	for i := range 3000 {
		fmt.Fprintf(&lines, "line %d\n", i)
	}
	if err := os.WriteFile(path("lines"), lines.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, caravel, "make", "--no-sync", "--store="+path("st.castr"), path("x.caibx"), path("lines"))
	const id = "54edf51c7618565cb9cdf5474962b9f6c7ef68610d4ab02523aeb3accb857a54"
	chunk := path("st.castr/54ed/" + id + ".cacnk")
	files, err := filepath.Glob(badChunks + "/*.cacnk")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".cacnk")
		replace(t, chunk, read(t, file))
		out := path("out")
		for _, args := range [][]string{{"cat"}, {"digest"}, {"extract", out}} {
			t.Run(name+"/"+args[0], func(t *testing.T) {
				args := append([]string{args[0], "--store=" + path("st.castr"), path("x.caibx")}, args[1:]...)
				r := bounded(t, nil, args...)
				if !strings.HasPrefix(name, "good") {
					complaint(t, r, "image: bytes 0 to 28890: ", "store: chunk "+id+": ", " in "+chunk)
					if r.stdout != "" {
						t.Errorf("%d bytes on standard output", len(r.stdout))
					}
					absent(t, out)
					return
				}
				if r.status != 0 || r.stderr != "" {
					t.Errorf("status %d: %s", r.status, r.stderr)
				}
				if args[0] == "cat" && r.stdout != lines.String() {
					t.Errorf("other bytes")
				}
			})
		}
		if strings.HasPrefix(name, "good") {
			holds(t, out, lines.Bytes())
			os.Remove(out)
		}
		clean(t, dir, "lines", "x.caibx")
	}
}

// TestIndexThatClaimsToBeHuge reads indexes that say that they are terabytes
// long.
func TestIndexThatClaimsToBeHuge(t *testing.T) {
	head := read(t, filepath.Join(badIndexes, "good.caibx"))[:104]
	dir := t.TempDir()
	const claimed = 104 + 40<<36
	huge := filepath.Join(dir, "huge.caibx")
	if err := os.WriteFile(huge, head, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, claimed); err != nil {
		t.Skipf("no file of %d bytes: %v", int64(claimed), err)
	}
	// A server that says so and goes away after the first chunk.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(int64(claimed)))
		_, _ = w.Write(head)
	})}
	go server.Serve(listener)
	defer server.Close()
	for where, want := range map[string]string{
		huge: "offset 120: tail has 0x0",
		"http://" + listener.Addr().String() + "/huge.caibx": "EOF",
	} {
		for _, args := range [][]string{{"list-chunks"}, {"cat", "--store=" + dir}, {"extract", "--store=" + dir}} {
			args = append(args, "--timeout=2s", where)
			if args[0] == "extract" {
				args = append(args, filepath.Join(dir, "out"))
			}
			began := time.Now()
			r := bounded(t, nil, args...)
			complaint(t, r, want, where)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("%v: took %s", args, took)
			}
		}
	}
	clean(t, dir, "huge.caibx")
}

// TestEndlessIndex feeds the head of an index and then zeros for ever.
func TestEndlessIndex(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		_, err := w.Write(read(t, filepath.Join(badIndexes, "good.caibx"))[:64])
		zeros := make([]byte, 64<<10)
		for err == nil {
			_, err = w.Write(zeros)
		}
	}()
	got := bounded(t, r, "list-chunks", "-")
	_ = r.Close() // ends the writer
	complaint(t, got, "offset ")
}
