//go:build linux

package integration

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/ftp"
	"caravel/store/ssh"
	"caravel/store/storetest"
)

// farProgram runs a program as nobody, unless a file says how it fails. 1 is that file, 2
// the program.
const farProgram = `#!/bin/sh
[ -e %[1]s ] && { echo "out of order" >&2; exit 1; }
CARAVEL_CONFIG=none exec setpriv --reuid=%[3]d --regid=%[3]d --clear-groups %[2]s "$@"
`

// A farBench is a bench behind an sshd.
type farBench struct {
	*faultBench
	sshd    *sshd
	program string // what is run there
	broken  string // the file that breaks it
	dir     string
}

// newFarBench starts an sshd. What it runs is nobody's, so that permissions count.
func newFarBench(t *testing.T, program string) *farBench {
	t.Helper()
	need(t, "setpriv")
	f := &farBench{faultBench: onDisk(t, faultDisk(t), "far/default.castr", nobody)}
	f.dir, f.Stall = filepath.Join(f.disk, "far"), 4*time.Second
	mkdir(t, filepath.Join(f.dir, "default.castr"))
	if err := errors.Join(os.Chmod(f.dir, 0o777), os.Chown(filepath.Join(f.dir, "default.castr"), nobody, -1)); err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	passable(t, own)
	if strings.HasPrefix(program, os.TempDir()) {
		passable(t, filepath.Dir(program))
	}
	f.program, f.broken = filepath.Join(own, "program"), filepath.Join(own, "broken")
	if err := os.WriteFile(f.program, fmt.Appendf(nil, farProgram, f.broken, program, nobody), 0o755); err != nil {
		t.Fatal(err)
	}
	f.sshd = startSSHWith(t, f.program)
	setenv(t, "CASYNC_SSH_PATH", f.sshd.ssh)
	f.Line = func(t testing.TB) storetest.Line { return newLine(t, "127.0.0.1:"+f.sshd.port) }
	f.Kill = killing(&f.sshd.daemon, "127.0.0.1:"+f.sshd.port)
	f.Answers = []storetest.Answer{
		{Name: "no permission to read (403)", Says: "ermission", Kind: store.ErrRefused, Give: func(t testing.TB) func() { return f.mode(t, 0) }},
		{Name: "a key that counts no more (401)", Says: "Permission denied (publickey)", Kind: store.ErrRefused, Give: f.keyless},
		{Name: "a program that ends at once (500)", Says: "exit status 1", Give: f.breaks},
	}
	f.Refusals = []storetest.Refusal{
		{Name: "key", Says: "Permission denied (publickey)", Open: func(t testing.TB) storetest.Opened {
			return f.with(t, "me", "host")
		}},
		{Name: "host key", Says: "Host key verification failed", Open: func(t testing.TB) storetest.Opened {
			return f.with(t, "known", "")
		}},
	}
	return f
}

// location is the store's URL.
func (f *farBench) location(scheme string) func(address string) string {
	return func(address string) string {
		port := f.sshd.port
		if address != "" {
			_, port, _ = net.SplitHostPort(address)
		}
		return scheme + "://127.0.0.1:" + port + f.dir + "/default.castr"
	}
}

// again ends the sessions that there are, so that what has changed counts.
func (f *farBench) again(t testing.TB) {
	t.Helper()
	for _, child := range children(t, f.sshd.cmd.Process.Pid) {
		killBelow(t, child)
	}
}

// mode changes that of the store's folder.
func (f *farBench) mode(t testing.TB, mode os.FileMode) func() {
	t.Helper()
	set := func(mode os.FileMode) {
		if err := os.Chmod(filepath.Join(f.dir, "default.castr"), mode); err != nil {
			t.Fatal(err)
		}
	}
	set(mode)
	return func() { set(0o777) }
}

// keyless has the server know nobody.
func (f *farBench) keyless(t testing.TB) func() {
	t.Helper()
	key := read(t, f.sshd.own("me.pub"))
	f.sshd.write(t, "me.pub", "")
	f.again(t)
	return func() { f.sshd.write(t, "me.pub", string(key)) }
}

// breaks has the program end at once.
func (f *farBench) breaks(t testing.TB) func() {
	t.Helper()
	if err := os.WriteFile(f.broken, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.again(t)
	return func() {
		if err := os.Remove(f.broken); err != nil {
			t.Error(err)
		}
	}
}

// with opens the store while one of ssh's files is another one, or none.
func (f *farBench) with(t testing.TB, file, other string) storetest.Opened {
	t.Helper()
	was, now := read(t, f.sshd.own(file)), ""
	if other != "" {
		now = string(read(t, f.sshd.own(other)))
	}
	f.sshd.write(t, file, now)
	t.Cleanup(func() { f.sshd.write(t, file, string(was)) })
	return f.Open(t, storetest.Way{})
}

// Why there are fewer answers than HTTP has.
const (
	nameless = "it is what is said of a missing chunk"
	unlike   = "the server has no word for it"
)

// sftpBench is OpenSSH's sftp-server.
func sftpBench(t *testing.T) *faultBench {
	f := newFarBench(t, sftpServer)
	f.url = f.location("sftp")
	f.looked = f.url("")
	f.Without = map[string]string{"answers/404": nameless, "answers/429, 503": unlike}
	f.Open = f.opener()
	return f.faultBench
}

// sshBench is a caravel on the far side.
func sshBench(t *testing.T) *faultBench {
	f := newFarBench(t, caravel)
	setenv(t, "CASYNC_REMOTE_PATH", f.program)
	f.url, f.Crypt = f.location("ssh"), false
	f.Answers[0].Name, f.Answers[0].Writes = "no permission to write (403)", true
	f.Answers[2].Says, f.Answers[2].Kind = "out of order", store.ErrRefused // which sshd tells of a command, and not of a subsystem
	f.Damaged = "remove it there"
	f.looked = filepath.Join(f.dir, "default.castr") // its chunks are no files to whom is here
	f.Open = func(t testing.TB, way storetest.Way) storetest.Opened {
		t.Helper()
		s, err := ssh.New(f.url(way.Address), ssh.Options{Stall: way.Stall})
		if err != nil {
			t.Fatal(err)
		}
		return storetest.Opened{Writer: s.Writer(), Where: s.String(), Close: s.Close}
	}
	f.Without = map[string]string{
		"encryption":                          "casync's protocol names chunks by their digest only, and knows of no key",
		"answers/no permission to read (403)": "of a chunk, a far side can say in casync's protocol that it is missing, and nothing else",
		"answers/404":                         nameless,
		"answers/429, 503":                    unlike,
	}
	return f.faultBench
}

// ftpPorts is how many ports transfers have.
const ftpPorts = 40

// ftpBench is vsftpd.
func ftpBench(t *testing.T) *faultBench {
	account, err := user.Lookup("ftp")
	if err != nil {
		t.Skipf("vsftpd needs a user of that name: %v", err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	disk := faultDisk(t)
	b := onDisk(t, disk, "root/images/default.castr", uid)
	first := 20_000 + os.Getpid()%200*ftpPorts // below those that the system gives away
	v := startFTPIn(t, filepath.Join(disk, "root"), "ftp", fmt.Sprintf("pasv_min_port=%d", first), fmt.Sprintf("pasv_max_port=%d", first+ftpPorts-1))
	address := v.address()
	b.url = func(at string) string {
		if at == "" {
			at = address
		}
		return "ftp://" + at + "/images/default.castr"
	}
	b.looked, b.Open = b.url(""), b.opener()
	servers := []string{address}
	for i := range ftpPorts {
		servers = append(servers, fmt.Sprintf("127.0.0.1:%d", first+i))
	}
	b.Line = func(t testing.TB) storetest.Line { return newLineTo(t, servers...) }
	b.Stall = 4 * time.Second
	b.Answers = []storetest.Answer{
		{Name: "no permission (403)", Says: `550 "Permission denied."`, Kind: store.ErrRefused, Give: v.changes("cmds_denied=RETR,STOR,SIZE")},
		{Name: "no login (401)", Says: "to the login", Kind: store.ErrRefused, Give: v.changes("anonymous_enable=NO", "local_enable=YES")},
		{Name: "too many (503)", Says: "421", Busy: 1e9, Give: v.crowded},
	}
	b.Refusals = []storetest.Refusal{{Name: "password", Says: "to the login", Secret: "opensesame", Open: func(t testing.TB) storetest.Opened {
		url := strings.Replace(b.url(""), "ftp://", "ftp://me:opensesame@", 1)
		return openURL(t, url, strings.Replace(url, ":opensesame", "", 1), storetest.Way{}, nil)
	}}}
	for _, bad := range badCertificates(t) {
		b.Refusals = append(b.Refusals, storetest.Refusal{Name: bad.name, Says: bad.says, Open: func(t testing.TB) storetest.Opened {
			return bad.ftp(t)
		}})
	}
	b.Without = map[string]string{"answers/404": nameless, "answers/500": "vsftpd does not fail without ending"}
	b.Kill = killing(&v.daemon, address)
	return b
}

// changes has a server with more directives.
func (v *vsftpd) changes(directives ...string) func(t testing.TB) func() {
	return func(t testing.TB) func() {
		t.Helper()
		conf := read(t, v.conf)
		v.changed(t, conf, directives...)
		return func() { v.changed(t, conf) }
	}
}

// crowded has it serve one client, who is somebody else.
func (v *vsftpd) crowded(t testing.TB) func() {
	t.Helper()
	undo := v.changes("max_clients=1")(t)
	var other net.Conn
	eventually(t, "the server takes one client", func() bool {
		conn, err := net.Dial("tcp", v.address())
		if err != nil {
			t.Fatal(err)
		}
		greeting, _ := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(greeting, "220") {
			conn.Close()
			return false
		}
		other = conn
		return true
	})
	return func() {
		other.Close()
		undo()
	}
}

// ftp opens a store at a server with the certificate.
func (b *badCertificate) ftp(t testing.TB) storetest.Opened {
	t.Helper()
	v := startFTPIn(t, t.TempDir(), "ftpes", "rsa_cert_file="+b.cert, "rsa_private_key_file="+b.key)
	hosts := ftp.NewHosts()
	d, err := ftp.New(v.url, ftp.Options{Hosts: hosts, TLS: b.trust})
	return opened(t, d, err, nil, hosts.Close)
}
