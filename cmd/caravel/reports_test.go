package main

import (
	"io"
	"strings"
	"testing"
)

// TestReportsAndProgress holds every command to showing progress if it can take long,
// and to printing JSON if it reports something, or says here why it does not.
func TestReportsAndProgress(t *testing.T) {
	const (
		shows  = "it shows an image, or serves, until it is told to end; --stats, or /metrics, say what was done"
		quick  = "it does not take long"
		prints = "what it prints is what it is for, as it comes"
		speaks = "it speaks a protocol"
	)
	noProgress := map[string]string{
		"mount": shows, "mount-index": shows, "mkdev": shows, "nbd-server": shows,
		"serve": shows, "chunk-server": shows, "index-server": shows,
		"list": prints, "mtree": prints, "stat": prints, "cat": prints, "list-chunks": prints,
		"tree": "its names come in no order that tells how many are left", "profile": quick, "config": quick, "version": quick, "help": quick, "completion": quick, "manpage": quick, "udev": quick,
		"demo": prints, "push": speaks,
	}
	const file = "it writes what was asked for, and says nothing"
	noJSON := map[string]string{
		"mount": shows, "mount-index": shows, "nbd-server": shows,
		"serve": shows, "chunk-server": shows, "index-server": shows,
		"cat": file, "help": "it is for people", "completion": file, "manpage": file, "demo": "it is for people", "push": speaks, "udev": file,
	}
	for _, cmd := range newApp(strings.NewReader(""), io.Discard, io.Discard).Commands {
		table := flagTable(cmd.Flags)
		for flag, excused := range map[string]map[string]string{"progress": noProgress, "json": noJSON} {
			if has, why := table[flag] != nil, excused[cmd.Name]; has == (why != "") {
				t.Errorf("%s: has --%s: %v, but is said not to need it: %q", cmd.Name, flag, has, why)
			}
		}
	}
}
