package restore

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestClaimWaits: a run that begins while another one sweeps has its parts
// claimed nevertheless, and is not held up for good by whoever keeps the lock.
func TestClaimWaits(t *testing.T) {
	at := t.TempDir()
	opened := func() *dir {
		d := &dir{}
		if err := d.openNamed(at); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.close)
		return d
	}
	sweeper := opened()
	if err := unix.Flock(sweeper.fd, unix.LOCK_EX); err != nil {
		t.Skipf("directories cannot be locked here: %v", err)
	}
	began := time.Now()
	opened().claim()
	if waited := time.Since(began); waited < tries*time.Millisecond {
		t.Errorf("gave up after %v", waited)
	}

	ours := opened()
	go unix.Flock(sweeper.fd, unix.LOCK_UN) // runs when the claim first sleeps
	ours.claim()
	part := newPart()
	if err := os.WriteFile(at+"/"+part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sweep(sweeper.fd, []name{{name: part}})
	if _, err := os.Lstat(at + "/" + part); err != nil {
		t.Errorf("a living run's part: %v", err)
	}
	if err := unix.Flock(ours.fd, unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	sweep(sweeper.fd, []name{{name: part}})
	if _, err := os.Lstat(at + "/" + part); err == nil {
		t.Error("a dead run's part is still there")
	}
}
