package restore

import (
	"os"

	"golang.org/x/sys/unix"
)

// shareBlock is the size of blocks of the file systems that let files share them; where they
// are larger it is refused.
const shareBlock = 4 << 10

// An extent is a range of a file.
type extent struct{ start, end int64 }

// share has the file fd share blocks with the former one, as far as that is right, and with
// files that Options.Share knows of. What is in them is compared when the bytes are written:
// see writer.
func (r *run) share(fd int, j *job, old *former) []extent {
	if r.opt.Share == nil || j.entry.Size < shareBlock || r.noShare.Load() {
		return nil
	}
	s := sharing{r: r, fd: fd}
	if old != nil {
		s.clone(old.fd, 0, extent{0, old.as / shareBlock * shareBlock})
	}
	r.opt.Share(j.body, j.entry.Size, func(file *os.File, at, start, size int64) bool {
		start -= j.body
		if e, ok := blocksOf(file, at, start, size, j.entry.Size); ok {
			s.clone(int(file.Fd()), at-start, e)
		}
		return !s.over
	})
	return s.done
}

// A sharing is what a file shares with others.
type sharing struct {
	r    *run
	fd   int
	done []extent // ascending
	over bool     // nothing more can be shared
}

// clone shares e with the file from, in which it lies so much further behind.
func (s *sharing) clone(from int, by int64, e extent) {
	if n := len(s.done); n > 0 {
		e.start = max(e.start, s.done[n-1].end)
	}
	if e.start >= e.end || e.start%shareBlock != 0 {
		return
	}
	err := again(func() error {
		return unix.IoctlFileCloneRange(s.fd, &unix.FileCloneRange{
			Src_fd:      int64(from),
			Src_offset:  uint64(e.start + by),
			Src_length:  uint64(e.end - e.start),
			Dest_offset: uint64(e.start),
		})
	})
	switch err {
	case unix.EXDEV:
		return
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS:
		s.r.noShare.Store(true)
		s.over = true
		return
	case unix.ENOSPC, unix.EDQUOT: // whoever writes will say so
		s.over = true
	}
	s.done = append(s.done, e) // if there was an error, perhaps a part of it: it is compared
}

// blocksOf are the whole blocks of the size bytes at start of a file that are the whole blocks
// at at of another. The last block of both may be less than that.
func blocksOf(file *os.File, at, start, size, total int64) (extent, bool) {
	if (at-start)%shareBlock != 0 {
		return extent{}, false
	}
	e := extent{(start + shareBlock - 1) / shareBlock * shareBlock, start + size}
	if e.end%shareBlock != 0 {
		st, err := file.Stat()
		if err != nil || e.end != total || at+size != st.Size() {
			e.end = e.end / shareBlock * shareBlock
		}
	}
	return e, e.start < e.end
}
