//go:build no_ftp

package open

var ftpSchemes = []scheme{
	{name: "ftp", leftOut: true},
	{name: "ftps", leftOut: true},
	{name: "ftpes", leftOut: true},
}
