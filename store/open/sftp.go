//go:build !no_sftp

package open

import (
	"io"

	"caravel/store"
	"caravel/store/sftp"
)

// sftpSchemes are folders behind the system's ssh.
var sftpSchemes = []scheme{{name: "sftp", remote: true, object: sftpObject, folder: sftpFolder}}

func sftpObject(location string, opt Options) (store.Blobs, string, error) {
	return sftp.Object(location, sftpOptions(opt))
}

func sftpFolder(location string, opt Options) (store.Blobs, error) {
	return sftp.New(location, sftpOptions(opt))
}

func sftpOptions(opt Options) sftp.Options {
	hosts := opt.Shared.of("sftp", func() io.Closer { return sftp.NewHosts() })
	return sftp.Options{Hosts: hosts.(*sftp.Hosts), Stall: opt.HTTP.Stall}
}
