package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is where the records lie.
const Dir = "/run/caravel"

// A Record says of a device what the kernel does not know.
type Record struct {
	Link        string `json:"link,omitempty"`        // path of a link to it, which below /dev udev may have made
	Image       string `json:"image"`                 // where it lies, without secrets
	PID         int    `json:"pid"`                   // of the process, set by Take
	Supervisor  int    `json:"supervisor,omitempty"`  // the process that starts it again, and may have the device open; 0: none
	Connections int    `json:"connections,omitempty"` // to the kernel
}

// A Found is a record and whether its process lives.
type Found struct {
	Record
	Alive bool
}

// maxRecord bounds what is read of a record.
const maxRecord = 64 << 10

// Find reads the record of a device. The error matches os.ErrNotExist if there is
// none.
func Find(dir, device string) (Found, error) {
	f, err := os.Open(filepath.Join(dir, device))
	if err != nil {
		return Found{}, err
	}
	defer f.Close()
	held := locked(f, unix.LOCK_SH)
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return Found{}, err
	}
	r := Found{Alive: errors.Is(held, unix.EWOULDBLOCK)}
	if err := json.Unmarshal(b, &r.Record); err != nil {
		return Found{}, fmt.Errorf("claim: %s: %w", f.Name(), err)
	}
	return r, nil
}

// All finds the records of all devices. Those that say nothing sensible are left
// out.
func All(dir string) (map[string]Found, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := make(map[string]Found)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if r, err := Find(dir, e.Name()); err == nil {
			all[e.Name()] = r
		}
	}
	return all, nil
}

func locked(f *os.File, how int) error { return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) }

// A Locked folder is one in which no other process takes devices meanwhile.
type Locked struct {
	dir  string
	lock *os.File
}

const pause = 5 * time.Millisecond

// Lock makes the folder if there is none, and waits for its lock.
func Lock(ctx context.Context, dir string) (*Locked, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	for {
		err := locked(f, unix.LOCK_EX)
		if err == nil {
			return &Locked{dir, f}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("claim: %s: %w", f.Name(), err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// Unlock lets the next process in.
func (l *Locked) Unlock() { l.lock.Close() }

// A Claim is a device that this process looks after.
type Claim struct {
	path string
	file *os.File // locked
}

// Take makes this process the one that looks after a device: one that is its own
// by the kernel's word, or of which Find says under this lock that nobody does.
func (l *Locked) Take(device string, r Record) (*Claim, error) {
	path := filepath.Join(l.dir, device)
	r.PID = os.Getpid()
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("claim: %s: %w", device, err)
	}
	// Under a name of its own first: whoever finds it finds it whole and locked.
	f, err := os.OpenFile(filepath.Join(l.dir, "."+device), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	err = locked(f, unix.LOCK_EX)
	if err == nil {
		_, err = f.Write(append(b, '\n'))
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("claim: %s: %w", device, err)
	}
	return &Claim{path, f}, nil
}

// Drop removes the record of a device that is no more, unless somebody looks
// after it by now.
func (l *Locked) Drop(device string) error {
	if r, err := Find(l.dir, device); err == nil && r.Alive {
		return nil
	}
	if err := os.Remove(filepath.Join(l.dir, device)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("claim: %w", err)
	}
	return nil
}

// Release ends the claim on a device that is no more. Its record goes, unless it
// is that of the next device of this name already.
func (c *Claim) Release() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	l, err := Lock(ctx, filepath.Dir(c.path))
	if err != nil {
		return errors.Join(err, c.file.Close())
	}
	defer l.Unlock()
	ours, err := c.file.Stat()
	if now, statErr := os.Stat(c.path); err == nil && statErr == nil && os.SameFile(ours, now) {
		err = os.Remove(c.path)
	}
	return errors.Join(err, c.file.Close())
}

// Leave ends the claim on a device that stays, and so does its record.
func (c *Claim) Leave() error { return c.file.Close() }
