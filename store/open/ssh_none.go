//go:build no_ssh

package open

import (
	"fmt"

	"caravel/store"
)

// sshSchemes say that there is none of them in this build.
var sshSchemes = []scheme{{
	name:   "ssh",
	remote: true,
	object: func(location string, _ Options) (store.Blobs, string, error) { return nil, "", noSSH(location) },
	chunks: func(location string, _ Options) (chunkStore, error) { return nil, noSSH(location) },
}}

func noSSH(location string) error {
	return fmt.Errorf("open: %s: host:path and ssh:// are left out of this build (a file of this name is ./%[1]s)", location)
}

// helped finds no helper program.
func helped(string) (scheme, bool) { return scheme{}, false }
