//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// vsftpdConf has these places: 1 the port, 2 the folder to serve, 3 an empty one, 4
// more of the server.
const vsftpdConf = `
listen=YES
listen_address=127.0.0.1
listen_port=%[1]s
background=NO
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
secure_chroot_dir=%[3]s
anonymous_enable=YES
no_anon_password=YES
anon_root=%[2]s
anon_world_readable_only=NO
anon_umask=022
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
%[4]s
`

// A vsftpd is a real FTP server of a folder.
type vsftpd struct {
	*daemon
	dir string // what it serves, and takes
	url string // scheme://127.0.0.1:port/images
	env string // what a client's environment needs to trust it; "": nothing

	conf string // its configuration
}

// startFTP serves a new folder to anybody, for one of the schemes.
func startFTP(t *testing.T, scheme string, directives ...string) *vsftpd {
	t.Helper()
	return startFTPIn(t, t.TempDir(), scheme, directives...)
}

// startFTPIn serves a folder in a root.
func startFTPIn(t testing.TB, root, scheme string, directives ...string) *vsftpd {
	t.Helper()
	needRoot(t) // to be somebody else
	need(t, "vsftpd")
	ftp, err := user.Lookup("ftp")
	if err != nil {
		t.Skipf("vsftpd needs a user of that name: %v", err)
	}
	uid, _ := strconv.Atoi(ftp.Uid)
	own := t.TempDir()
	v := &vsftpd{dir: filepath.Join(root, "images"), conf: filepath.Join(own, "conf")} // it serves no root that can be written to
	mkdir(t, v.dir)
	passable(t, root)
	if err := os.Chown(v.dir, uid, -1); err != nil {
		t.Fatal(err)
	}
	if scheme != "ftp" {
		cert, key := certificate(t, own)
		v.env = "SSL_CERT_FILE=" + cert
		directives = append([]string{"ssl_enable=YES", "allow_anon_ssl=YES", "force_anon_logins_ssl=YES",
			"force_anon_data_ssl=YES", "ssl_tlsv1=YES", "rsa_cert_file=" + cert, "rsa_private_key_file=" + key}, directives...)
	}
	if scheme == "ftps" {
		directives = append(directives, "implicit_ssl=YES")
	}
	empty := t.TempDir()
	passable(t, empty)
	for range 5 { // somebody may take the port first
		address := freePort(t)
		_, port, _ := net.SplitHostPort(address)
		if err := os.WriteFile(v.conf, fmt.Appendf(nil, vsftpdConf, port, root, empty, strings.Join(directives, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		v.daemon, v.url = start(t, "vsftpd", v.conf), scheme+"://"+address+"/images"
		if v.listens(address) {
			return v
		}
	}
	t.Fatalf("vsftpd does not listen: %s", v.stderr)
	return nil
}

// address is where it listens.
func (v *vsftpd) address() string {
	_, rest, _ := strings.Cut(v.url, "://")
	address, _, _ := strings.Cut(rest, "/")
	return address
}

// changed has one with more directives, or none, in its place.
func (v *vsftpd) changed(t testing.TB, conf []byte, directives ...string) {
	t.Helper()
	conf = append(bytes.Clone(conf), strings.Join(directives, "\n")+"\n"...)
	if err := os.WriteFile(v.conf, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	killing(&v.daemon, v.address())(t)()
}

// listens waits until it does, or has ended.
func (v *vsftpd) listens(address string) bool {
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return true
		}
		select {
		case <-v.exited:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// trusted has a command trust the server.
func (v *vsftpd) trusted(cmd *exec.Cmd) {
	if v.env != "" {
		cmd.Env = append(os.Environ(), v.env)
	}
}

// server is what usesImages needs of one.
func (v *vsftpd) server() imageServer {
	return imageServer{
		must: func(args ...string) string {
			v.t.Helper()
			r := runWith(v.t, v.trusted, caravel, args...)
			if r.status != 0 {
				v.t.Fatalf("caravel %s: status %d\n%s%s", strings.Join(args, " "), r.status, r.stdout, r.stderr)
			}
			return r.stdout
		},
		start: func(args ...string) *daemon { return startWith(v.t, v.trusted, caravel, args...) },
	}
}

// owned gives all that is below its folder to the server's user.
func (v *vsftpd) owned(t testing.TB) {
	t.Helper()
	must(t, "chown", "-R", "ftp", v.dir)
}
