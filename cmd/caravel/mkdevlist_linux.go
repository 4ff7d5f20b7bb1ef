package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"caravel/internal/claim"
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
