//go:build !no_ssh

package open

import (
	"io"

	"caravel/store"
	"caravel/store/ssh"
)

// sshSchemes are the places that casync's protocol leads to over ssh.
var sshSchemes = []scheme{{name: "ssh", remote: true, object: farObject, chunks: farChunks}}

// helped is the scheme of URLs for which casync has a helper program, if there is one.
func helped(name string) (scheme, bool) {
	return scheme{name: name, remote: true, object: farObject, chunks: farChunks}, ssh.HasHelper(name)
}

func farObject(location string, opt Options) (store.Blobs, string, error) {
	return ssh.Object(location, farOptions(opt))
}

func farChunks(location string, opt Options) (chunkStore, error) {
	s, err := ssh.New(location, farOptions(opt))
	if err != nil {
		return nil, err
	}
	return opt.Shared.of("ssh "+location, func() io.Closer { return s }).(*ssh.Store), nil
}

func farOptions(opt Options) ssh.Options { return ssh.Options{Stall: opt.HTTP.Stall} }
