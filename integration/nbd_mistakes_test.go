//go:build linux

package integration

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestServerMistakes starts a server with what it cannot serve, or not there. It
// says so in one line that names the file and the reason, and leaves nothing.
func TestServerMistakes(t *testing.T) {
	d := newDisk(t, 10_000)
	here, other := pki(t), pki(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strings.TrimPrefix(taken.Addr().String(), "127.0.0.1:")
	letter := writeFile(t, d.path("letter"), []byte("a letter"))
	tree := writeFile(t, d.path("tree.caidx"), nil)
	broken := writeFile(t, d.path("broken.caibx"), []byte("no index"))
	lone := writeFile(t, filepath.Join(t.TempDir(), "lone.caibx"), read(t, d.index))
	none := filepath.Join(t.TempDir(), "none")
	tls := func(cert, key string) []string { return []string{"--tls-cert=" + cert, "--tls-key=" + key, d.index} }
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"missing index", []string{none + ".caibx"}, []string{none + ".caibx", "not there"}},
		{"missing file", []string{none + ".img"}, []string{none + ".img", "no such file"}},
		{"tree", []string{tree}, []string{tree, "holds a tree, not a disk image"}},
		{"broken index", []string{broken}, []string{broken, "index: offset"}},
		{"no store beside the index", []string{lone}, []string{"default.castr: no such store", "--store"}},
		{"missing store", []string{"--store=" + none, d.index}, []string{none, "no such store"}},
		{"store that is a file", []string{"--store=" + letter, d.index}, []string{letter, "not a directory"}},
		{"missing profile", []string{"--profile=" + none, d.index}, []string{"--profile: ", none, "not there"}},
		{"materialised nowhere", []string{"--materialize=" + none + "/m", d.index}, []string{"--materialize: ", none, "no such file or directory"}},
		{"port in use", []string{"--listen=" + port, d.index}, []string{"--listen: localhost:" + port, "address already in use"}},
		{"no such host", []string{"--listen=no.invalid:7", d.index}, []string{"--listen: no.invalid:7: "}},
		{"socket on a file", []string{"--socket=" + letter, d.index}, []string{"--socket: " + letter, "no socket"}},
		{"socket nowhere", []string{"--socket=" + none + "/s", d.index}, []string{"--socket: ", none + ": no such file or directory"}},
		{"overlay nowhere", []string{"--overlay=" + none + "/o", d.index}, []string{"--overlay: " + none + "/o: the folder " + none + ": no such file"}},
		{"overlay on another file", []string{"--overlay=" + letter, d.index}, []string{"--overlay: " + letter, "not an overlay"}},
		{"missing certificate", tls(none, here+"/server-key.pem"), []string{none, "no such file"}},
		{"missing key", tls(here+"/server-cert.pem", none), []string{none, "no such file"}},
		{"certificate that is none", tls(letter, here+"/server-key.pem"), []string{letter, "failed to find any PEM data"}},
		{"key of another", tls(here+"/server-cert.pem", other+"/server-key.pem"), []string{here + "/server-cert.pem and " + other + "/server-key.pem: private key does not match public key"}},
		{"authority that is none", append(tls(here+"/server-cert.pem", here+"/server-key.pem"), "--tls-ca="+letter), []string{letter, "no certificate in it"}},
		{"no folder of certificates", []string{"--tls-certificates=" + none, d.index}, []string{none + "/server-cert.pem", "no such file"}},
		{"number of the process nowhere", []string{"--pid-file=" + none + "/pid", "--listen=127.0.0.1:0", d.index}, []string{"--pid-file: ", none + ": no such file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, caravel, append([]string{"nbd-server"}, tt.args...)...)
			complaint(t, r, tt.want...)
			if r.stdout != "" {
				t.Errorf("%q on standard output", r.stdout)
			}
		})
	}
	holds(t, letter, []byte("a letter"))
}

// TestSocketTakenOver puts a socket in the place of one whose server was killed, and
// of no other.
func TestSocketTakenOver(t *testing.T) {
	need(t, "nbdinfo")
	d := newDisk(t, 10_000)
	socket := filepath.Join(shortDir(t), "s")
	first, _ := startNBD(t, "--socket", socket, d.index)
	complaint(t, run(t, caravel, "nbd-server", "--socket", socket, d.index), socket, "another server listens there")
	first.stop(syscall.SIGKILL)
	if _, err := os.Lstat(socket); err != nil {
		t.Fatal(err)
	}
	next, uri := startNBD(t, "--socket", socket, d.index)
	must(t, "nbdinfo", uri)
	next.ends(syscall.SIGTERM, soon)
	absent(t, socket)
}
