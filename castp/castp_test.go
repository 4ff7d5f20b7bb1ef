package castp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"caravel/castp"
	"caravel/chunker"
)

var id = chunker.SHA512_256.Sum([]byte("a chunk"))

// all writes one message of each type.
func all(w *castp.Writer) error {
	return errors.Join(
		w.Hello(castp.PullChunks|castp.ReadableStore),
		w.File(castp.Index, []byte("index")),
		w.Bare(castp.IndexEOF),
		w.File(castp.Archive, make([]byte, castp.Piece+1)),
		w.Bare(castp.ArchiveEOF),
		w.Request(true, id),
		w.Request(false, id, id),
		w.Chunk(id, true, []byte("data")),
		w.Missing(id),
		w.Abort(2, "no such\nthing"),
		w.Bare(castp.Goodbye),
		w.Flush(),
	)
}

func TestThereAndBack(t *testing.T) {
	var b bytes.Buffer
	if err := all(castp.NewWriter(&b)); err != nil {
		t.Fatal(err)
	}
	var got []string
	r := castp.NewReader(&b)
	for {
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || len(data) != m.Size {
			t.Errorf("%v: %d bytes of %d, error %v", m.Type, len(data), m.Size, err)
		}
		got = append(got, strings.TrimSpace(m.Type.String()+" "+m.Text+string(data[:min(len(data), 5)])))
		if m.Type == castp.Chunk && (m.IDs[0] != id || m.Flags != castp.Compressed) {
			t.Errorf("chunk %v, flags %#x", m.IDs, m.Flags)
		}
	}
	want := "HELLO|INDEX index|INDEX_EOF|ARCHIVE \x00\x00\x00\x00\x00|ARCHIVE \x00|ARCHIVE_EOF|REQUEST|REQUEST|CHUNK data|MISSING|ABORT no such thing|GOODBYE"
	if strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", strings.Join(got, "|"), want)
	}
}

// raw is a message as anybody could send it.
func raw(size uint64, t castp.Type, body ...byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, size)
	return append(binary.LittleEndian.AppendUint64(b, uint64(t)), body...)
}

func TestRefused(t *testing.T) {
	word := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	hello := raw(24, castp.Hello, word(0x41)...)
	after := func(m []byte) []byte { return append(bytes.Clone(hello), m...) }
	ids := func(n int) []byte { return append(word(0), make([]byte, 32*n)...) }
	tests := []struct {
		name string
		sent []byte
		want string
	}{
		{"nothing of a head", hello[:7], "unexpected EOF"},
		{"a body that ends", hello[:20], "unexpected EOF"},
		{"size below 16", raw(15, castp.Hello), "HELLO of 15 bytes"},
		{"size above 16 MiB", raw(16<<20+1, castp.Chunk), "CHUNK of 16777217 bytes"},
		{"size of all ones", raw(1<<64-1, castp.Chunk), "CHUNK of 18446744073709551615 bytes"},
		{"unknown type", after(raw(16, 7)), "no message has type 0x7"},
		{"before HELLO", raw(16, castp.Goodbye), "offset 0: GOODBYE before HELLO"},
		{"chunk before HELLO", raw(57, castp.Chunk, append(ids(1), 1)...), "CHUNK before HELLO"},
		{"a second HELLO", after(hello), "offset 24: a second HELLO"},
		{"HELLO too long", raw(32, castp.Hello, make([]byte, 16)...), "HELLO of 32 bytes"},
		{"HELLO of nothing", raw(24, castp.Hello, word(0)...), "HELLO with flags 0x0"},
		{"HELLO of all", raw(24, castp.Hello, word(1<<64-1)...), "HELLO with flags 0xffffffffffffffff"},
		{"HELLO with an unknown flag", raw(24, castp.Hello, word(0x2001)...), "HELLO with flags 0x2001"},
		{"chunks of no index", raw(24, castp.Hello, word(0x800)...), "without index and chunks"},
		{"INDEX of nothing", after(raw(16, castp.Index)), "INDEX of 16 bytes"},
		{"INDEX_EOF with a body", after(raw(17, castp.IndexEOF, 0)), "INDEX_EOF of 17 bytes"},
		{"REQUEST of nothing", after(raw(24, castp.Request, ids(0)...)), "REQUEST of 24 bytes"},
		{"REQUEST of a part of an ID", after(raw(57, castp.Request, append(ids(1), 0)...)), "REQUEST of 57 bytes"},
		{"REQUEST with an unknown flag", after(raw(56, castp.Request, append(word(2), make([]byte, 32)...)...)), "REQUEST with flags 0x2"},
		{"CHUNK of nothing", after(raw(56, castp.Chunk, ids(1)...)), "CHUNK of 56 bytes"},
		{"CHUNK with an unknown flag", after(raw(57, castp.Chunk, append(word(3), make([]byte, 33)...)...)), "CHUNK with flags 0x3"},
		{"MISSING too long", after(raw(49, castp.Missing, make([]byte, 33)...)), "MISSING of 49 bytes"},
		{"GOODBYE with a body", after(raw(24, castp.Goodbye, word(0)...)), "GOODBYE of 24 bytes"},
		{"ABORT of nothing", raw(16, castp.Abort), "ABORT of 16 bytes"},
		{"ABORT with a huge code", raw(24, castp.Abort, word(1<<31-1)...), "ABORT with code 2147483647"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := castp.NewReader(bytes.NewReader(tt.sent))
			var err error
			for err == nil {
				_, err = r.Next()
			}
			if err == io.EOF || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestAgree(t *testing.T) {
	tests := []struct {
		ours, theirs castp.Flags
		want         string // in the error; "": none
	}{
		{castp.PullChunks, castp.ReadableStore, ""},
		{castp.ReadableStore, castp.PullChunks, ""},
		{castp.PushChunks | castp.PushIndex | castp.PushIndexChunks, castp.WritableStore | castp.WritableIndex, ""},
		{castp.PullIndex, castp.ReadableStore, "does not offer an index to read"},
		{castp.ReadableStore, castp.PushChunks, "wants a store to write"},
		{castp.ReadableStore, castp.ReadableIndex, "nobody wants anything"},
	}
	for _, tt := range tests {
		err := castp.Agree(tt.ours, tt.theirs)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%#x with %#x: got %v, want %q", uint64(tt.ours), uint64(tt.theirs), err, tt.want)
		}
	}
}

// What casync itself says is understood.
func TestCasyncsHello(t *testing.T) {
	casync, err := exec.LookPath("casync")
	if err != nil {
		t.Skip("casync is not installed")
	}
	cmd := exec.CommandContext(t.Context(), casync, "pull", "-", "-", "-", t.TempDir())
	out, err := cmd.Output() // its standard input is at its end
	if err != nil {
		t.Fatal(err)
	}
	m, err := castp.NewReader(bytes.NewReader(out)).Next()
	if err != nil || castp.Flags(m.Flags) != castp.ReadableStore {
		t.Errorf("got %v with %#x, error %v", m.Type, m.Flags, err)
	}
}

func FuzzReader(f *testing.F) {
	var b bytes.Buffer
	if err := all(castp.NewWriter(&b)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(raw(16<<20, castp.Request))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := castp.NewReader(bytes.NewReader(sent))
		var again bytes.Buffer
		w := castp.NewWriter(&again)
		for {
			m, err := r.Next()
			if err != nil {
				break
			}
			data, err := io.ReadAll(r)
			if len(data) > m.Size || err == nil && len(data) != m.Size {
				t.Fatalf("%v: %d bytes of %d", m.Type, len(data), m.Size)
			}
			if err != nil {
				break
			}
			repeat(t, w, m, data)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		check(t, sent, again.Bytes())
	})
}

// repeat says a message again.
func repeat(t *testing.T, w *castp.Writer, m castp.Message, data []byte) {
	var err error
	switch m.Type {
	case castp.Hello:
		err = w.Hello(castp.Flags(m.Flags))
	case castp.Index, castp.Archive:
		err = w.File(m.Type, data)
	case castp.Request:
		err = w.Request(m.Flags != 0, m.IDs...)
	case castp.Chunk:
		err = w.Chunk(m.IDs[0], m.Flags != 0, data)
	case castp.Missing:
		err = w.Missing(m.IDs[0])
	case castp.Abort:
		err = w.Abort(m.Code, m.Text)
	default:
		err = w.Bare(m.Type)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// check compares what was accepted with what was said again, unless there was an
// ABORT, whose text may be shortened, or a file's piece, which may be cut.
func check(t *testing.T, sent, again []byte) {
	for _, loose := range []castp.Type{castp.Abort, castp.Index, castp.Archive} {
		if bytes.Contains(sent, binary.LittleEndian.AppendUint64(nil, uint64(loose))) {
			return
		}
	}
	if !bytes.HasPrefix(sent, again) {
		t.Fatalf("sent %x, accepted %x", sent, again)
	}
}
