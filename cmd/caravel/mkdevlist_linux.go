package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"caravel/internal/claim"
	"caravel/internal/diskuse"
	"caravel/nbddev"
)

// A listedDevice is one of ours, as --list shows it.
type listedDevice struct {
	Device   string `json:"device"`
	Size     int64  `json:"size"`
	State    string `json:"state"` // served, waiting
	PID      int    `json:"pid,omitempty"`
	Link     string `json:"link,omitempty"`
	Image    string `json:"image,omitempty"`
	Identity string `json:"identity,omitempty"`
}

// The states of a device.
const (
	served  = "served"
	waiting = "waiting" // for a process to serve it
)

func listDevices(std streams, asJSON bool) error {
	all, err := ourDevices()
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(std.out)
		for _, d := range all {
			if err := enc.Encode(d); err != nil {
				return err
			}
		}
		return nil
	}
	return printDevices(std.out, all)
}

func printDevices(w io.Writer, all []listedDevice) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, d := range all {
		who := "-"
		if d.PID != 0 {
			who = strconv.Itoa(d.PID)
		}
		link := d.Link
		if link == "" {
			link = "-"
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", d.Device, d.Size, d.State, who, link, d.Image)
	}
	return t.Flush()
}

// ourDevices finds the nbd devices with our mark, and the loop devices of living
// processes.
func ourDevices() ([]listedDevice, error) {
	records, err := claim.All(claim.Dir)
	if err != nil {
		return nil, err
	}
	states, err := nbddev.List()
	if err != nil && !errors.Is(err, nbddev.ErrNoDriver) {
		return nil, err
	}
	var all []listedDevice
	for _, s := range states {
		if strings.HasPrefix(s.Identity, identityPrefix) {
			all = append(all, listed(deviceName(s.Index), s.Size, s.Identity, records))
		}
	}
	var loops []string
	for name, r := range records {
		if strings.HasPrefix(name, "loop") && r.Alive {
			loops = append(loops, name)
		}
	}
	slices.Sort(loops)
	for _, name := range loops {
		sectors, _ := os.ReadFile("/sys/block/" + name + "/size")
		n, _ := strconv.ParseInt(strings.TrimSpace(string(sectors)), 10, 64)
		all = append(all, listed(name, n*512, "", records))
	}
	return all, nil
}

func listed(name string, size int64, identity string, records map[string]claim.Found) listedDevice {
	r := records[name]
	d := listedDevice{Device: "/dev/" + name, Size: size, State: waiting, Link: r.Link, Image: r.Image, Identity: identity}
	if r.Alive {
		d.State, d.PID = served, r.PID
	}
	return d
}

// detachDevice ends a device, whoever serves it.
func detachDevice(ctx context.Context, node string) error {
	path, err := filepath.EvalSymlinks(node)
	if err != nil {
		return err
	}
	if err := tidy(ctx); err != nil {
		return err
	}
	if _, err := os.Lstat(node); errors.Is(err, os.ErrNotExist) {
		return nil // all that was left of it
	}
	all, err := ourDevices()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(d listedDevice) bool { return d.Device == path })
	if i < 0 {
		return fmt.Errorf("%s: not a device that caravel mkdev has attached; see caravel mkdev --list", node)
	}
	index, nbd := nbddev.Index(path)
	if !nbd {
		return endProcess(ctx, path)
	}
	if err := nbddev.At(index, nbddev.Config{}).Detach(); err != nil {
		return err
	}
	if all[i].PID != 0 {
		return leftAlone(ctx, path, all[i].PID)
	}
	return tidy(ctx)
}

// endProcess has the process end that has a loop device, and with it the device,
// unless somebody uses that: its end would be the end of what they read.
func endProcess(ctx context.Context, device string) error {
	r, err := claim.Find(claim.Dir, filepath.Base(device))
	if err != nil || !r.Alive {
		return nil // it has ended meanwhile
	}
	use := loopUse(device)
	if err := diskuse.Free(device, r.PID, r.Supervisor); err != nil {
		return err
	}
	if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: process %d: %w", device, r.PID, err)
	}
	if err := leftAlone(ctx, device, r.PID); err != nil {
		return err
	}
	if hasFile(device) && loopUse(device) == use { // somebody was faster
		return &diskuse.InUseError{Path: device, Users: diskuse.Of(device)}
	}
	return nil
}

// loopUse is what tells one use of a loop device from the next.
func loopUse(device string) string {
	b, _ := os.ReadFile("/sys/block/" + filepath.Base(device) + "/diskseq")
	return string(b)
}

// leftAlone waits until the process that had a device is done with it.
func leftAlone(ctx context.Context, device string, pid int) error {
	const limit = 10 * time.Second
	for deadline := time.Now().Add(limit); ; {
		r, err := claim.Find(claim.Dir, filepath.Base(device))
		if err != nil || !r.Alive || r.PID != pid {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: process %d does not let go of it", device, r.PID)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
