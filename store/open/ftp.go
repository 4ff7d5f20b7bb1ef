//go:build !no_ftp

package open

import (
	"io"

	"caravel/store"
	"caravel/store/ftp"
)

// ftpSchemes are folders of FTP servers: plain, with TLS from the start, and with TLS
// that a command begins.
var ftpSchemes = []scheme{
	{name: "ftp", remote: true, object: ftpObject, folder: ftpFolder},
	{name: "ftps", remote: true, object: ftpObject, folder: ftpFolder},
	{name: "ftpes", remote: true, object: ftpObject, folder: ftpFolder},
}

func ftpObject(location string, opt Options) (store.Blobs, string, error) {
	return ftp.Object(location, ftpOptions(opt))
}

func ftpFolder(location string, opt Options) (store.Blobs, error) {
	return ftp.New(location, ftpOptions(opt))
}

func ftpOptions(opt Options) ftp.Options {
	hosts := opt.Shared.of("ftp", func() io.Closer { return ftp.NewHosts() })
	return ftp.Options{Hosts: hosts.(*ftp.Hosts), Stall: opt.HTTP.Stall}
}
