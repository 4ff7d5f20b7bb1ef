// Package memo remembers of which files the chunks of a directory were made, so that
// to make them again takes no look into files that are the same.
//
//	m, why := memo.Open(path, memo.Key{Flags: flags, Params: params}, time.Now())
//	r, err := walk.Open(ctx, dir, flags, walk.Options{Known: m.Known})
//	opt := image.MakeOptions{Params: params, Flags: flags, Parts: m.Parts(ctx, r, r.Payloads, true), State: m.State}
//	made, err := image.Make(ctx, nil, dst, opt)
//	err = m.Save(ctx, path, made.Index)
//
// # What is remembered
//
// A directory's stream is names and attributes, which are always had anew, and the bytes of
// files. The recipe of a chunk is the digest of the former and, for the latter, of which file in
// which state they are (device, inode, size, times of change) and which of its bytes. If at a
// cut the stream goes on by a recipe that is known, the chunk is known, and where the next cut
// is. Else the bytes are read, up to the next cut, and so on. A chunk that the store has lost
// is read, too.
//
// A file that was written to within the last two seconds before a run began is in none of its
// recipes: within one tick of the clock it might be written to again and show the same times.
// A file is not remembered, either, where the time of its last change is none of a clock's: on
// images (squashfs, EROFS, ISO 9660), FUSE, FAT, 9p, SMB and all else that is not known to have
// such times. There another image with a file of the same size and time of modification looks the
// same. Of an overlay those files are read whose time of change is that of modification, since it
// may be made of such.
//
// Whoever sets the clock back, or writes through a mapping that lives on while the file is
// made, can deceive this, as they can every other program that goes by times.
//
// The digest of the whole stream needs all bytes from the first change on; the state that
// it had up to there is remembered every few chunks. So with the digest what lies before the
// first change is not read, and without it what is unchanged.
//
// # Beside casync's
//
// casync keeps a link for each chunk and place, which are 3,300 inodes for Go's own tree, and
// gives up the digest. Here it is one file of 300 KB, which is bound to the features, sizes and
// digest that it was made with: another set has one of its own.
package memo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"caravel/catar/walk"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store/local"
)

// A Key is what a memo is bound to.
type Key struct {
	Root   walk.Inode
	Flags  feature.Flags
	Params chunker.Params
}

// Name is that of the file in which the memo for a key lies.
func (k Key) Name() string { return fmt.Sprintf("%x.memo", k.sum(8)) }

func (k Key) sum(n int) []byte {
	var b []byte
	for _, v := range []uint64{k.Root.Dev, k.Root.Ino, uint64(k.Flags), uint64(k.Params.Min), uint64(k.Params.Avg), uint64(k.Params.Max)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	sum := sha512.Sum512_256(b)
	return sum[:n]
}

// A row is one chunk, in the order of the stream.
type row struct {
	recipe recipe // zero: it is not known
	anchor uint64 // what it begins with
	size   int
	id     chunker.ID
}

// A recipe is the digest of what a chunk was made of.
type recipe [16]byte

// stateEvery is how many chunks lie between two states of the digest of the stream.
const stateEvery = 16

// A Memo is what is known, and what is being found out by one run.
type Memo struct {
	key   Key
	since int64 // nanoseconds; files that were changed from here on are not remembered

	rows     []row
	anchors  []int32        // rows that are known, sorted by their anchors
	states   map[int][]byte // of the stream's digest, behind a row
	files    []uint64       // sorted
	newRows  []row
	newState map[int][]byte
	newFiles []uint64
	reused   int
}

// Open reads the memo at path, which need not be there. One that cannot be used is as if it
// were not there; why says what is the matter with it. now is the time of the clock that the
// files' times are of.
func Open(path string, key Key, now time.Time) (m *Memo, why error) {
	m = &Memo{key: key, since: now.Add(-2 * time.Second).UnixNano(), newState: map[int][]byte{}}
	b, err := readOwn(path)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = m.parse(b)
	}
	if err != nil {
		m.rows, m.files, m.states = nil, nil, nil
		return m, fmt.Errorf("memo: %s: %w", path, err)
	}
	for i, r := range m.rows {
		if r.recipe != (recipe{}) {
			m.anchors = append(m.anchors, int32(i))
		}
	}
	slices.SortStableFunc(m.anchors, func(a, b int32) int { return cmp.Compare(m.rows[a].anchor, m.rows[b].anchor) })
	return m, nil
}

// readOwn reads a memo, which must be a file of the user's.
func readOwn(path string) ([]byte, error) {
	f, st, err := openOwn(path)
	if err != nil {
		return nil, cmp.Or(pathless(err), err)
	}
	defer f.Close()
	if st.Size() > maxSize {
		return nil, fmt.Errorf("%d bytes, above %d", st.Size(), maxSize)
	}
	b := make([]byte, st.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// pathless is why a file cannot be opened, without its path; nil: that is not said.
func pathless(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return nil
}

// from lists the rows that begin with an anchor, the first few of them.
func (m *Memo) from(anchor uint64) []int32 {
	at, _ := slices.BinarySearchFunc(m.anchors, anchor, func(row int32, a uint64) int { return cmp.Compare(m.rows[row].anchor, a) })
	n := 0
	for at+n < len(m.anchors) && n < tries && m.rows[m.anchors[at+n]].anchor == anchor {
		n++
	}
	return m.anchors[at : at+n]
}

// Known reports whether a file may be one of those remembered; it is walk.Options.Known.
func (m *Memo) Known(f walk.File) bool {
	_, known := slices.BinarySearch(m.files, fileSum(f))
	return known
}

// State takes the state of the stream's digest behind a row.
func (m *Memo) State(row int, last bool, state func() []byte) {
	if last || row%stateEvery == stateEvery-1 {
		m.newState[row] = state()
	}
}

// Reused is how many chunks were known.
func (m *Memo) Reused() int { return m.reused }

// Save writes what was found out in place of what was known.
func (m *Memo) Save(ctx context.Context, path string, x *index.Index) error {
	if x.Len() != len(m.newRows) {
		return fmt.Errorf("memo: %d chunks were seen, and %d made", len(m.newRows), x.Len())
	}
	for i := range m.newRows {
		m.newRows[i].id = x.Chunk(i).ID
	}
	slices.Sort(m.newFiles)
	m.newFiles = slices.Compact(m.newFiles)
	b := m.appendTo(nil)
	if len(b) > maxSize {
		return fmt.Errorf("memo: %d bytes, above %d", len(b), maxSize)
	}
	dir, name := splitPath(path)
	return local.New(dir, local.Options{Mode: 0o600}).Put(ctx, name, bytes.NewReader(b), int64(len(b)))
}

// The file: magic, what it is bound to, how many rows, files and states there are, these, and
// the SHA-512/256 of all that.
const (
	magic    = "caravel memo 1\n"
	keySize  = 32
	rowSize  = 16 + 8 + 8 + 32
	maxSize  = 128 << 20 // of an archive of 75 GB, or 4 million files
	headSize = len(magic) + keySize + 3*8
)

var (
	errDamaged = errors.New("damaged")
	errOther   = errors.New("belongs to something else")
	errNoFile  = errors.New("is no regular file")
)

func (m *Memo) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = append(append(b, magic...), m.key.sum(keySize)...)
	b = le.AppendUint64(b, uint64(len(m.newRows)))
	b = le.AppendUint64(b, uint64(len(m.newFiles)))
	b = le.AppendUint64(b, uint64(len(m.newState)))
	for _, r := range m.newRows {
		b = append(b, r.recipe[:]...)
		b = le.AppendUint64(b, r.anchor)
		b = le.AppendUint64(b, uint64(r.size))
		b = append(b, r.id[:]...)
	}
	for _, f := range m.newFiles {
		b = le.AppendUint64(b, f)
	}
	for row, state := range m.newState {
		b = le.AppendUint64(b, uint64(row))
		b = le.AppendUint64(b, uint64(len(state)))
		b = append(b, state...)
	}
	sum := sha512.Sum512_256(b)
	return append(b, sum[:]...)
}

func (m *Memo) parse(b []byte) error {
	if len(b) > maxSize || len(b) < headSize+32 || string(b[:len(magic)]) != magic {
		return errDamaged
	}
	b, sum := b[:len(b)-32], b[len(b)-32:]
	if got := sha512.Sum512_256(b); !bytes.Equal(got[:], sum) {
		return errDamaged
	}
	b = b[len(magic):]
	if !bytes.Equal(b[:keySize], m.key.sum(keySize)) {
		return errOther
	}
	p := &parser{b: b[keySize:]}
	rows, files, states := p.u64(), p.u64(), p.u64()
	if rows > uint64(len(p.b)/rowSize) || files > uint64(len(p.b)/8) || states > uint64(len(p.b)/16) {
		return errDamaged
	}
	m.rows = make([]row, rows)
	for i := range m.rows {
		r := &m.rows[i]
		copy(r.recipe[:], p.take(16))
		r.anchor = p.u64()
		r.size = int(min(p.u64(), chunker.MaxSize+1))
		copy(r.id[:], p.take(32))
		if r.size > m.key.Params.Max || r.size < 1 {
			return errDamaged
		}
	}
	m.files = make([]uint64, files)
	for i := range m.files {
		m.files[i] = p.u64()
	}
	m.states = make(map[int][]byte, states)
	for range states {
		row := int(min(p.u64(), rows))
		m.states[row] = p.take(p.u64())
	}
	if p.bad || len(p.b) > 0 || !slices.IsSorted(m.files) {
		return errDamaged
	}
	return nil
}

// A parser takes fields off bytes; bad says that there were not enough.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.b, p.bad = nil, true
		return nil
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

func (p *parser) u64() uint64 {
	if b := p.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// appendFile appends all that tells one state of a file from another.
func appendFile(b []byte, f walk.File) []byte {
	for _, v := range []uint64{f.Dev, f.Ino, uint64(f.Size), uint64(f.Mtime), uint64(f.Ctime)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// fileSum is short for a file. That two have the same does no harm: the file is only read later.
func fileSum(f walk.File) uint64 { return shortSum(appendFile(nil, f)) }

func shortSum(b []byte) uint64 {
	sum := sha512.Sum512_256(b)
	return cmp.Or(binary.LittleEndian.Uint64(sum[:]), 1)
}
