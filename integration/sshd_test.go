package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sshdConf has these places: 1 the prefix, 2 the port.
const sshdConf = `
Port %[2]s
ListenAddress 127.0.0.1
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 100
`

// sshConf has these places: 1 the prefix, 2 the port, 3 the user.
const sshConf = `
Host far
	HostName 127.0.0.1
	Port %[2]s
	User %[3]s
	IdentityFile %[1]s/user
	IdentitiesOnly yes
	UserKnownHostsFile %[1]s/known
	StrictHostKeyChecking yes
	BatchMode yes
	HostKeyAlias far
`

// startSSHD starts an OpenSSH server with a key of its own, and has every ssh that
// programs of the test start know it as far. It returns its address.
func startSSHD(t *testing.T) (address string) {
	t.Helper()
	need(t, "ssh", "ssh-keygen")
	sshd := "/usr/sbin/sshd"
	need(t, sshd)
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it locks itself in
			t.Fatal(err)
		}
	}
	prefix := t.TempDir()
	for _, key := range []string{"host", "user"} {
		must(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(prefix, key))
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	address = freePort(t)
	_, port, _ := strings.Cut(address, ":")
	write := func(name, format string, args ...any) {
		if err := os.WriteFile(filepath.Join(prefix, name), fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, err := os.ReadFile(filepath.Join(prefix, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write("known", "far %s", host)
	write("server", sshdConf, prefix, port)
	write("client", sshConf, prefix, port, me.Username)
	d := start(t, sshd, "-D", "-e", "-f", filepath.Join(prefix, "server"))
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("sshd does not start: %v; %s", err, d.stderr)
		}
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		<-d.exited
	})
	useSSH(t, filepath.Join(prefix, "client"))
	return address
}

// useSSH has ssh read a configuration.
func useSSH(t testing.TB, conf string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "ssh")
	text := fmt.Sprintf("#!/bin/sh\nexec ssh -F %s \"$@\"\n", conf)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	setenv(t, "CASYNC_SSH_PATH", script)
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
