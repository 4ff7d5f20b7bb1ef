//go:build linux

package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sshdConf has these places: 1 the folder of its own files, 2 the port, 3 the
// program behind the sftp subsystem. SHLVL keeps bash from reading what the user of the
// tests has in .bashrc, which may take long.
const sshdConf = `
ListenAddress 127.0.0.1
Port %[2]s
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/me.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
SetEnv SHLVL=2
Subsystem sftp %[3]s
`

// sshConf is a client's, which knows the server as far, and any other host by the same key;
// 1 and 2 are as above.
const sshConf = `
Host far
HostName 127.0.0.1
Port %[2]s
Host *
HostKeyAlias far
IdentityFile %[1]s/me
IdentitiesOnly yes
UserKnownHostsFile %[1]s/known
GlobalKnownHostsFile none
StrictHostKeyChecking yes
BatchMode yes
`

// An sshd is a real server, with keys of its own.
type sshd struct {
	*daemon
	dir  string // of its own files
	url  string // sftp://127.0.0.1:port, to which a path is added
	port string
	ssh  string // program that knows the server and is let in
}

// startSSH starts OpenSSH's server, whose sftp subsystem has flags.
func startSSH(t *testing.T, flags ...string) *sshd {
	t.Helper()
	return startSSHWith(t, strings.Join(append([]string{sftpServer}, flags...), " "))
}

// sftpServer is the program behind OpenSSH's sftp subsystem.
const sftpServer = "/usr/lib/openssh/sftp-server"

// startSSHWith is startSSH with another program behind the subsystem.
func startSSHWith(t *testing.T, subsystem string) *sshd {
	t.Helper()
	need(t, "sshd", "ssh", "ssh-keygen")
	if _, err := os.Stat(sftpServer); err != nil {
		t.Skip("OpenSSH's sftp-server is not installed")
	}
	if os.Geteuid() == 0 { // where it shuts itself in
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &sshd{dir: t.TempDir()}
	for _, key := range []string{"host", "me"} {
		must(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.own(key))
	}
	server, err := exec.LookPath("sshd")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // somebody may take the port first
		_, s.port, _ = net.SplitHostPort(freePort(t))
		s.write(t, "sshd_config", fmt.Sprintf(sshdConf, s.dir, s.port, subsystem))
		s.daemon = start(t, server, "-D", "-e", "-f", s.own("sshd_config"))
		if s.listens() {
			s.url = "sftp://127.0.0.1:" + s.port
			s.client(t)
			return s
		}
	}
	t.Fatalf("sshd does not listen: %s", s.stderr)
	return nil
}

// client makes what a client needs.
func (s *sshd) client(t testing.TB) {
	t.Helper()
	s.write(t, "known", fmt.Sprintf("far %s", read(t, s.own("host.pub"))))
	s.write(t, "ssh_config", fmt.Sprintf(sshConf, s.dir, s.port))
	s.ssh = s.own("ssh")
	s.write(t, "ssh", "#!/bin/sh\nexec ssh -F "+s.own("ssh_config")+` "$@"`+"\n")
	if err := os.Chmod(s.ssh, 0o755); err != nil {
		t.Fatal(err)
	}
}

func (s *sshd) own(name string) string { return filepath.Join(s.dir, name) }

func (s *sshd) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.own(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// listens waits until it does, or has ended.
func (s *sshd) listens() bool {
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			conn.Close()
			return true
		}
		select {
		case <-s.exited:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// known has a command use the program.
func (s *sshd) known(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "CASYNC_SSH_PATH="+s.ssh) }

// caravel runs a command that knows the server.
func (s *sshd) caravel(args ...string) result {
	s.t.Helper()
	return runWith(s.t, s.known, caravel, args...)
}

// must runs a command that knows the server and has to succeed.
func (s *sshd) must(args ...string) string {
	s.t.Helper()
	r := s.caravel(args...)
	if r.status != 0 {
		s.t.Fatalf("caravel %s: status %d\n%s%s", strings.Join(args, " "), r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// children are the processes that a process has started.
func children(t testing.TB, pid int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, list := range lists {
		b, _ := os.ReadFile(list) // a thread may have ended
		for _, field := range strings.Fields(string(b)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// bereave kills the processes that a process has started.
func bereave(t testing.TB, pid int) (n int) {
	t.Helper()
	for _, child := range children(t, pid) {
		if syscall.Kill(child, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n
}

// startFar starts a server, and has every ssh that programs of the test start know it as
// far. It returns its address.
func startFar(t *testing.T) (address string) {
	t.Helper()
	s := startSSH(t)
	setenv(t, "CASYNC_SSH_PATH", s.ssh)
	return "127.0.0.1:" + s.port
}

// through has the clients of the test reach the server by another address.
func through(t testing.TB, address string) {
	t.Helper()
	script, err := os.ReadFile(os.Getenv("CASYNC_SSH_PATH"))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(address, ":")
	if err := os.WriteFile(os.Getenv("CASYNC_SSH_PATH"), []byte(strings.Replace(string(script), "exec ssh", "exec ssh -p "+port, 1)), 0o755); err != nil {
		t.Fatal(err)
	}
}

func setenv(t testing.TB, name, value string) {
	t.Helper()
	was, there := os.LookupEnv(name)
	os.Setenv(name, value)
	t.Cleanup(func() {
		if os.Unsetenv(name); there {
			os.Setenv(name, was)
		}
	})
}

// A farSide is a program at the other end of an ssh.
type farSide struct{ name, program string }

// farSides are those that can be written to, and read from.
func farSides(t testing.TB) []farSide {
	t.Helper()
	sides := []farSide{{"caravel", caravel}}
	if casync, err := exec.LookPath("casync"); err == nil {
		sides = append(sides, farSide{"casync", casync})
	}
	return sides
}
