//go:build no_sftp

package open

var sftpSchemes = []scheme{{name: "sftp", leftOut: true}}
