package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"sync"
	"time"

	"caravel/index"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/diskcache"
)

const (
	// keptLimit bounds an index that is kept: that of 100 GiB in chunks of the
	// usual size. A larger one is read as it is needed.
	keptLimit = 64 << 20

	recordLimit = 64 << 10

	// absentFor is how long it is believed that a side file is not there, though
	// the index is the same: somebody may put a profile beside an image that is
	// long in use.
	absentFor = 24 * time.Hour
)

// A record is what is known of one location. It is kept as JSON.
type record struct {
	Location  string               // for people, without secrets
	Index     string               // the SHA-512/256 of the index, in hexadecimal digits
	Tag       string               // as in store.Info
	ModTime   time.Time            // as in store.Info
	Sides     map[string]string    // the SHA-256 of each side file, by its ending
	Absent    map[string]time.Time // when a side file turned out not to be there
	Confirmed map[string]string    // as Sides, of what Confirm was told of
}

// info is what the server said of the index.
func (r *record) info() store.Info { return store.Info{Tag: r.Tag, ModTime: r.ModTime} }

// A keeper keeps what is known of one location. A nil one keeps nothing.
type keeper struct {
	disk *diskcache.Cache
	log  *slog.Logger
	name string // of the location: a digest, for it may hold secrets

	mu      sync.Mutex
	record  record // as it shall be; guarded by mu
	was     record // as it is; guarded by mu once the image is open
	doubted bool   // what the server has is not to be taken for what is here; guarded by mu
}

func newKeeper(disk *diskcache.Cache, log *slog.Logger, location string) *keeper {
	sum := sha256.Sum256([]byte(location))
	return &keeper{
		disk:   disk,
		log:    log,
		name:   hex.EncodeToString(sum[:]),
		record: record{Location: redact.URL(location)},
	}
}

// load reads the record, and the index that it names. x is nil, and nothing is
// known, if one of the two is not there.
func (k *keeper) load() (x *index.Index) {
	var was record
	b, err := k.disk.ReadFile("location/"+k.name, recordLimit)
	if err != nil || json.Unmarshal(b, &was) != nil {
		return nil
	}
	b, err = k.disk.ReadFile("index/"+was.Index, keptLimit)
	if err != nil {
		return nil
	}
	x, err = index.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil || sumOf(x) != was.Index {
		return nil
	}
	k.was = was
	return x
}

func sumOf(x *index.Index) string {
	sum := x.Sum()
	return hex.EncodeToString(sum[:])
}

// side is a side file of the record. known is false if it was not looked for, or
// not lately, or was lost.
func (k *keeper) side(ending string) (content []byte, known bool) {
	sum, ok := k.was.Sides[ending]
	if !ok {
		return nil, lately(k.was.Absent[ending])
	}
	content, err := k.disk.ReadFile(k.sideName(ending), sideLimit)
	return content, err == nil && sumOfSide(content) == sum
}

// lately reports whether a side file that was not there then need not be looked
// for. A clock may be set back, but one that was far ahead counts for nothing.
func lately(then time.Time) bool { return time.Since(then).Abs() < absentFor }

// confirm notes that a side file is right.
func (k *keeper) confirm(ending string, content []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := maps.Clone(k.record.Confirmed) // that of was may be the same map
	if all == nil {
		all = map[string]string{}
	}
	all[ending] = sumOfSide(content)
	k.record.Confirmed = all
}

// confirmed reports whether that was noted.
func (k *keeper) confirmed(ending string, content []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.record.Confirmed[ending] == sumOfSide(content)
}

// sideName is the name under which a side file is kept. The endings begin with
// a dot.
func (k *keeper) sideName(ending string) string { return "side/" + k.name + ending }

func sumOfSide(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// index keeps an index that was read; info is of its file.
func (k *keeper) index(x *index.Index, info store.Info) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	sum := sumOf(x)
	if sum != k.was.Index {
		var b bytes.Buffer
		if _, err := x.WriteTo(&b); err != nil || b.Len() > keptLimit {
			return
		}
		k.note(k.disk.WriteFile("index/"+sum, b.Bytes()))
	}
	if sum == k.was.Index {
		k.record.Confirmed = k.was.Confirmed
	}
	k.record.Index, k.record.Tag, k.record.ModTime = sum, info.Tag, info.ModTime
	k.forget()
}

// doubt has the index be read again the next time.
func (k *keeper) doubt() {
	if k == nil {
		return
	}
	k.mu.Lock()
	again := k.doubted
	k.doubted = true
	k.forget()
	k.mu.Unlock()
	if !again {
		k.settle(nil)
	}
}

// forget leaves nothing by which the server could say that it has this version, if
// that is in doubt. k.mu is held.
func (k *keeper) forget() {
	if k.doubted {
		k.record.Tag, k.record.ModTime = "", time.Time{}
	}
}

// same says that the index that was kept is still the one.
func (k *keeper) same() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.record.Index, k.record.Tag, k.record.ModTime = k.was.Index, k.was.Tag, k.was.ModTime
	k.record.Confirmed = k.was.Confirmed
}

// settle keeps the side files that are known, and the record that names them:
// last, so that it names nothing that is not there. Without an index there is
// nothing that they belong to.
func (k *keeper) settle(known map[string]*side) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.record.Index == "" {
		return
	}
	k.record.Sides, k.record.Absent = map[string]string{}, map[string]time.Time{}
	if k.record.Index == k.was.Index {
		maps.Copy(k.record.Sides, k.was.Sides)
		maps.Copy(k.record.Absent, k.was.Absent)
	}
	for ending, f := range known {
		k.settleSide(ending, f)
	}
	if k.record.equal(k.was) {
		return
	}
	b, err := json.Marshal(k.record)
	if err == nil {
		err = k.disk.WriteFile("location/"+k.name, b)
	}
	k.note(err)
	k.was = k.record
}

// settleSide keeps a side file, or that there is none. k.mu is held.
func (k *keeper) settleSide(ending string, f *side) {
	if f.err != nil {
		delete(k.record.Sides, ending)
		if !lately(k.record.Absent[ending]) { // else nobody has looked again
			k.record.Absent[ending] = time.Now()
		}
		return
	}
	sum := sumOfSide(f.content)
	if k.was.Sides[ending] != sum {
		k.note(k.disk.WriteFile(k.sideName(ending), f.content))
	}
	k.record.Sides[ending] = sum
	delete(k.record.Absent, ending)
}

func (r record) equal(o record) bool {
	return r.Location == o.Location && r.Index == o.Index && r.Tag == o.Tag && r.ModTime.Equal(o.ModTime) &&
		maps.Equal(r.Sides, o.Sides) && maps.EqualFunc(r.Absent, o.Absent, time.Time.Equal) && maps.Equal(r.Confirmed, o.Confirmed)
}

// note says that something is not kept, which is no reason to stop.
func (k *keeper) note(err error) {
	if err != nil {
		k.log.Debug("not kept", "location", k.record.Location, "err", err)
	}
}

// sides settles the side files of which the record says what they are, and
// returns their endings.
func (k *keeper) sides(s *sides, endings []string) (known []string) {
	for _, ending := range endings {
		content, ok := k.side(ending)
		if !ok {
			continue
		}
		err := error(nil)
		if content == nil {
			err = store.ErrMissing
		}
		s.set(ending, settled(content, err))
		known = append(known, ending)
	}
	return known
}
