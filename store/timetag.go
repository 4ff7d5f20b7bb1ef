package store

import (
	"strconv"
	"time"
)

// tick is how long after a change to a file another one may leave its time as it
// is: servers tell times in seconds, of a clock that need not be ours.
const tick = 2 * time.Second

// TimeTag is an Info.Tag made of a file's size in bytes and the time of its last
// change, for backends that know nothing better. It is "" as long as a further
// change might leave both as they are, as seen at the time now (zero: when that is
// over), and if either is unknown (negative, zero).
func TimeTag(size int64, changed, now time.Time) string {
	if size < 0 || changed.IsZero() || now.Sub(changed).Abs() < tick {
		return ""
	}
	return strconv.FormatInt(changed.Unix(), 16) + "-" + strconv.FormatInt(size, 16)
}
