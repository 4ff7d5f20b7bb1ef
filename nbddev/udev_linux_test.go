package nbddev

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDone waits for the word that is meant, and says why if it waits no longer.
func TestDone(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	udev, ours := fds[0], fds[1]
	defer unix.Close(udev)
	defer unix.Close(ours)
	wait := unix.NsecToTimeval(int64(time.Millisecond))
	if err := unix.SetsockoptTimeval(ours, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	const mark = "00010203-0405-0607-0809-0a0b0c0d0e0f"
	say := func(message string) {
		t.Helper()
		if _, err := unix.Write(udev, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	say("libudev\x00ACTION=change\x00SYNTH_UUID=00000000-0405-0607-0809-0a0b0c0d0e0f\x00")
	say("change@/devices/virtual/block/nbd0\x00SYNTH_UUID=" + mark + "\x00") // the kernel's
	why := errors.New("why")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, why)
	defer cancel()
	if err := done(ctx, ours, mark); err != why {
		t.Errorf("not done: %v", err)
	}
	say("libudev\x00ACTION=change\x00SYNTH_UUID=" + mark + "\x00SEQNUM=1\x00")
	if err := done(t.Context(), ours, mark); err != nil {
		t.Error(err)
	}
}

// TestAppearedEnds with the reason of who waits for a device that never comes.
func TestAppearedEnds(t *testing.T) {
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := At(1 << 19).As(Config{Size: 512}).Announced(ctx); err != why {
		t.Error(err)
	}
}
