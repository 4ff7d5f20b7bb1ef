package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"caravel/fusefs"
	"caravel/internal/notify"
	"caravel/loop"
	"caravel/supervise"
)

// A heldDevice is a loop device of a file that one worker after the other serves.
// The supervisor keeps what they need: a part of the mount, and the device.
type heldDevice struct {
	*loopDevice
	lent *os.File // the part of the mount
	turn *fusefs.Turn
	said bool // that it is attached
}

// heldState is what the next worker has to know. The kernel asks nobody again for
// a file's name and size, and has some of its bytes, so they must not differ.
type heldState struct {
	Loop     string `json:"loop"` // the device
	Identity string `json:"identity"`
	Name     string `json:"name"`
	Size     int64  `json:"size"`
	Said     bool   `json:"said"` // that it is attached
}

// leftHeld is what the worker before has left of a loop device; nil if it left
// none.
func leftHeld(boss *supervise.Supervisor) *heldState {
	if boss == nil || len(boss.Legacy.Files) != 2 {
		return nil
	}
	var s heldState
	if json.Unmarshal(boss.Legacy.State, &s) != nil || s.Loop == "" {
		return nil
	}
	return &s
}

// held serves the device of a held mount, its own or one that was left to it,
// until it is told to end or to give way. The error matches fusefs.ErrNoResend if
// the kernel has no such mounts; then nothing has changed.
func (d *loopDevice) held(ctx context.Context, std streams) error {
	h := &heldDevice{loopDevice: d}
	if err := h.begin(ctx); err != nil {
		return err
	}
	if err := h.show(ctx, std); err != nil {
		return errors.Join(err, h.end())
	}
	select {
	case <-h.turn.Done():
		return h.lost()
	case <-d.boss.GiveWay():
		return h.giveWay()
	case <-ctx.Done():
		return h.end()
	}
}

// begin attaches the image, or goes on with the device that is attached to it.
func (h *heldDevice) begin(ctx context.Context) error {
	if left := leftHeld(h.boss); left != nil {
		return h.takeOver(*left)
	}
	return h.hold(ctx)
}

// show lets the device be found, and says once that it is there. Before that, it
// is the supervisor's: whoever reads it then may count on it.
func (h *heldDevice) show(ctx context.Context, std streams) error {
	if err := h.found(ctx); err != nil {
		if !h.said {
			return err
		}
		// It has its users already: they are not helped by the end of who serves it.
		h.log.Warn("device is served again, without its link", "device", h.device.Path, "err", err)
	}
	if h.said {
		h.log.Info("device is served again", "device", h.device.Path)
		return nil
	}
	if err := h.leave(); err != nil {
		return err
	}
	if err := h.announce(std, "it outlives a crash of the process that serves it, not of its supervisor too"); err != nil {
		return err
	}
	h.said = true
	return h.leave()
}

// hold mounts the file, serves it, and attaches it. Of the threads of this
// process, only that of loop.Attach waits for the mount, with nothing that keeps it.
func (h *heldDevice) hold(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "caravel-mkdev")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	mount, err := fusefs.Hold(dir, h.mountOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Close()) }()
	if h.lent, err = mount.Lend(); err != nil {
		return err
	}
	if h.turn, err = fusefs.ServeFile(h.lent, h.file, h.mountOptions()); err != nil {
		return err
	}
	return h.attach(ctx, mount.Dir)
}

// takeOver goes on with the device that another worker has left.
func (h *heldDevice) takeOver(left heldState) (err error) {
	files := h.boss.Legacy.Files
	defer files[1].Close()
	h.said = left.Said
	is := h.state(left.Loop)
	switch {
	case is.Identity != left.Identity:
		return fmt.Errorf("%s: attached to another image (%s, not %s)", left.Loop, left.Identity, is.Identity)
	case is != left:
		return fmt.Errorf("%s: attached as %q of %d bytes, not %q of %d", left.Loop, left.Name, left.Size, is.Name, is.Size)
	}
	h.lent = files[0]
	if h.turn, err = fusefs.ServeFile(h.lent, h.file, h.mountOptions()); err != nil {
		return err
	}
	h.device, err = loop.Inherit(files[1])
	return err
}

func (h *heldDevice) state(device string) heldState {
	return heldState{Loop: device, Identity: h.identity, Name: h.file.Name, Size: h.file.Size, Said: h.said}
}

// leave has the supervisor keep the device.
func (h *heldDevice) leave() error {
	state, err := json.Marshal(h.state(h.device.Path))
	if err != nil {
		return err
	}
	f, err := h.device.File()
	if err != nil {
		return err
	}
	defer f.Close() // it would count as another user
	// In this order: the device's last user may wait for reads, which fail as soon
	// as nobody has a part of the mount.
	return h.boss.Leave(supervise.Legacy{State: state, Files: []*os.File{h.lent, f}, Keep: true})
}

// giveWay ends the turn of this process. What it has not answered, its successor
// will.
func (h *heldDevice) giveWay() error {
	h.turn.Leave()
	return h.unclaim()
}

// end detaches the device. One in use stays the supervisor's: if that goes on, so
// does the device, and if it ends, reads fail.
func (h *heldDevice) end() error {
	// The supervisor, who is a user too, may be no more.
	_ = h.boss.Leave(supervise.Legacy{})
	if err := h.device.Detach(); err != nil {
		_ = h.leave()
		h.turn.Leave()
		return errors.Join(err, h.unclaim())
	}
	_ = notify.Send(notify.Stopping)
	select {
	case <-h.turn.Done():
	case <-time.After(mountGrace): // somebody found the file while it was in sight, and has it open
		h.turn.Leave()
	}
	return h.gone()
}

// mountGrace is how long the mount may take to end when its file is closed.
const mountGrace = time.Second

// lost ends a device whose mount somebody has aborted. The next worker attaches
// another one.
func (h *heldDevice) lost() error {
	_ = h.boss.Leave(supervise.Legacy{})
	err := fmt.Errorf("the mount below %s is gone", h.device.Path)
	return errors.Join(err, h.device.Detach(), h.gone())
}

// unclaim leaves the record of the device to the next worker.
func (h *heldDevice) unclaim() error {
	if h.claim == nil {
		return nil
	}
	return h.claim.Leave()
}
