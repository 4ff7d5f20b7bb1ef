//go:build linux

package integration

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"caravel/store"
	"caravel/store/gs"
	"caravel/store/http"
	"caravel/store/open"
	"caravel/store/storetest"
)

// A faultBench is what the suite of faults, and that of kills, need of a server.
type faultBench struct {
	storetest.Bench
	url    func(address string) string // of the store, by where its server is reached; "": where it is
	disk   string                      // the server's
	env    string                      // the variable that names the server to commands, if its URL does not
	names  func(t testing.TB) []string // of all that is there
	looked string                      // what verify can look at: a URL, or where that is
}

// benches are the stores. What is not there has a reason in its table.
var benches = []struct {
	name  string
	start func(t *testing.T) *faultBench
}{
	{"local", localBench},
	{"http", webBench},
	{"s3", s3Bench},
	{"gs", gsBench},
	{"oci", registryBench},
	{"sftp", sftpBench},
	{"ssh", sshBench},
	{"ftp", ftpBench},
}

// TestStoreFaults runs the suite of faults over every backend with its real server.
func TestStoreFaults(t *testing.T) {
	for _, b := range benches {
		t.Run(b.name, func(t *testing.T) { storetest.RunFaults(t, b.start(t).Bench) })
	}
}

const noServer = "there is no server, and no line to one"

// localBench is a folder of this machine.
func localBench(t *testing.T) *faultBench {
	b := onDisk(t, faultDisk(t), "store", os.Getuid())
	b.looked = filepath.Join(b.disk, "store")
	b.url = func(string) string { return b.looked }
	b.Open = b.opener()
	b.Without = map[string]string{
		"line": noServer, "cancel": noServer, "refusals": noServer, "killed": noServer + ": who puts is who is killed",
		"answers": "a folder has one answer, no permission, and none to root",
	}
	return b
}

// nobody is whom the workers of nginx are, and the far sides of ssh.
const nobody = 65534

// webBench is nginx.
func webBench(t *testing.T) *faultBench {
	b := onDisk(t, faultDisk(t), "www/store", nobody)
	www := filepath.Join(b.disk, "www")
	mkdir(t, www)
	n, _ := startShelfIn(t, www, false, "client_body_temp_path "+b.disk+"/temp;")
	t.Cleanup(func() { n.killAll() }) // before the disk goes
	b.web(t, "http", strings.TrimPrefix(n.url, "http://"), "/store")
	b.looked = filepath.Join(www, "store") // a web server lists nothing
	closed, _ := startShelf(t, false, basicAuth(t)...)
	b.Refusals = append(b.Refusals, storetest.Refusal{Name: "password", Says: "401 Unauthorized", Secret: "opensesame",
		Open: func(t testing.TB) storetest.Opened {
			return openURL(t, strings.Replace(closed.url, "://", "://me:opensesame@", 1), closed.url, storetest.Way{}, nil)
		}})
	b.Kill = killing(&n.daemon, strings.TrimPrefix(n.url, "http://"))
	return b
}

// s3Bench is versitygw.
func s3Bench(t *testing.T) *faultBench {
	s3Env(t)
	disk := faultDisk(t)
	s := &s3Server{dir: filepath.Join(disk, "buckets"), sidecar: filepath.Join(disk, "sidecar"), address: freePort(t)}
	mkdir(t, s.dir)
	mkdir(t, s.sidecar)
	s.run(t)
	bucket := filepath.Base(s.bucket(t))
	b := onDisk(t, disk, "buckets/"+bucket, os.Getuid())
	b.web(t, "s3+http", s.address, "/"+bucket)
	b.Plant = b.put
	for _, wrong := range []struct{ name, variable, value, says string }{
		{"secret", "S3_SECRET_KEY", "anothersecret", "SignatureDoesNotMatch"},
		{"key", "S3_ACCESS_KEY", "nobody", "access key ID"},
	} {
		// versitygw says of an unknown key that it is not there, and a HEAD has no more words.
		mute := wrong.name == "key"
		b.Refusals = append(b.Refusals, storetest.Refusal{Name: wrong.name, Says: wrong.says, Secret: s3Secret, Mute: mute,
			Open: func(t testing.TB) storetest.Opened {
				setenv(t, wrong.variable, wrong.value)
				return b.Open(t, storetest.Way{})
			}})
	}
	b.Kill = killing(&s.daemon, s.address)
	return b
}

// gsBench is what stands for Google's service.
func gsBench(t *testing.T) *faultBench {
	disk := faultDisk(t)
	s := startGSWith(t, "-backend", "filesystem", "-filesystem-root", filepath.Join(disk, "gs"))
	bucket := s.bucket(t)
	b := onDisk(t, disk, "gs/"+strings.TrimPrefix(bucket, "gs://"), os.Getuid())
	b.url = func(string) string { return bucket + "/default.castr" }
	b.looked, b.env = b.url(""), "STORAGE_EMULATOR_HOST"
	setenv(t, b.env, s.url)
	at := func(t testing.TB, url string, way storetest.Way, trust *tls.Config) storetest.Opened {
		t.Helper()
		opt := http.Options{Stall: way.Stall, TLS: trust}
		opt.Client = http.NewClient(opt)
		blobs, err := gs.New(b.url(""), gs.Options{Emulator: url, HTTP: opt})
		return opened(t, blobs, err, way.Key, func() error { opt.Client.CloseIdleConnections(); return nil })
	}
	b.Open = func(t testing.TB, way storetest.Way) storetest.Opened {
		return at(t, cmp.Or(way.Address, s.url), way, nil)
	}
	b.Line = func(t testing.TB) storetest.Line { return newLine(t, strings.TrimPrefix(s.url, "http://")) }
	b.Answers = s.front(t, nil).answers()
	for _, bad := range badCertificates(t) {
		front := s.front(t, &bad.pair)
		b.Refusals = append(b.Refusals, storetest.Refusal{Name: bad.name, Says: bad.says, Open: func(t testing.TB) storetest.Opened {
			return at(t, front.url, storetest.Way{}, bad.trust)
		}})
	}
	b.Plant, b.Objects, b.names = b.put, b.objects, b.listed // it has names of its own for files
	b.Without = map[string]string{"refusals/keys": "what stands for the service asks nobody who he is"}
	b.Kill = killing(&s.daemon, s.address)
	return b
}

// registryBench is the reference registry.
func registryBench(t *testing.T) *faultBench {
	b := onDisk(t, faultDisk(t), "none", os.Getuid())
	d, url := startRegistryIn(t, b.disk, false)
	address := strings.TrimSuffix(strings.TrimPrefix(url, "oci+http://"), "/images")
	b.web(t, "oci+http", address, "/images/default.castr")
	b.Plant, b.Objects, b.names = b.put, b.objects, b.listed
	b.Kill = killing(&d, address)
	return b
}

// web is what all have in common that speak HTTP.
func (b *faultBench) web(t *testing.T, scheme, address, path string) {
	t.Helper()
	b.url = func(at string) string { return scheme + "://" + cmp.Or(at, address) + path }
	b.looked = b.url("")
	b.Open = func(t testing.TB, way storetest.Way) storetest.Opened {
		// Some errors have the URL that was asked for, and not that of the store.
		return openURL(t, b.url(way.Address), cmp.Or(way.Address, address)+path, way, nil)
	}
	b.Line = func(t testing.TB) storetest.Line { return newLine(t, address) }
	b.Answers = startFront(t, "http://"+address, nil, nil).answers()
	for _, bad := range badCertificates(t) {
		at := startFront(t, "http://"+address, &bad.pair, nil).address
		b.Refusals = append(b.Refusals, storetest.Refusal{Name: bad.name, Says: bad.says, Open: func(t testing.TB) storetest.Opened {
			url := scheme + "s://" + at + path
			return openURL(t, url, at+path, storetest.Way{}, func(o *open.Options) { o.HTTP.TLS = bad.trust })
		}})
	}
}

// faultDisk is a disk of its own for a server, which everybody may use.
func faultDisk(t testing.TB) string {
	t.Helper()
	disk := smallDisk(t, 1<<30)
	passable(t, disk)
	if err := os.Chmod(disk, 0o777); err != nil {
		t.Fatal(err)
	}
	return disk
}

// onDisk is a bench whose store is a folder of a disk, and the server somebody.
func onDisk(t testing.TB, disk, folder string, owner int) *faultBench {
	t.Helper()
	dir := filepath.Join(disk, folder)
	b := &faultBench{disk: disk}
	b.Crypt = true
	b.Plant = func(t testing.TB, name string, content []byte) {
		t.Helper()
		scatter(t, dir, map[string][]byte{name: content})
		for path := filepath.Join(dir, name); path != filepath.Dir(dir); path = filepath.Dir(path) {
			if err := os.Chown(path, owner, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.Objects = func(t testing.TB) map[string][]byte {
		t.Helper()
		return filesOf(t, dir)
	}
	b.names = func(t testing.TB) []string {
		t.Helper()
		return slices.Collect(maps.Keys(filesOf(t, dir)))
	}
	b.Full = func(t testing.TB) func() {
		t.Helper()
		var st syscall.Statfs_t
		if err := syscall.Statfs(disk, &st); err != nil {
			t.Fatal(err)
		}
		used := int64(st.Blocks-st.Bfree) * st.Bsize
		remount(t, disk, 0, fmt.Sprintf("size=%d", used))
		return func() { remount(t, disk, 0, fmt.Sprintf("size=%d", 1<<30)) }
	}
	b.ReadOnly = func(t testing.TB) func() {
		t.Helper()
		remount(t, disk, syscall.MS_RDONLY, "")
		return func() { remount(t, disk, 0, "") }
	}
	return b
}

// remount changes a disk. Files that are just being written to keep it from that.
func remount(t testing.TB, disk string, flags uintptr, data string) {
	t.Helper()
	eventually(t, disk+" is mounted in another way", func() bool {
		return syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|flags, data) == nil
	})
}

// filesOf are the files below a folder, which need not be there, by their names in it.
func filesOf(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // any more, where somebody writes
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[name] = content
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// opener opens the store where a way leads.
func (b *faultBench) opener() func(t testing.TB, way storetest.Way) storetest.Opened {
	return func(t testing.TB, way storetest.Way) storetest.Opened {
		t.Helper()
		return openURL(t, b.url(way.Address), b.url(way.Address), way, nil)
	}
}

// openURL opens a store, whose errors have where in them.
func openURL(t testing.TB, url, where string, way storetest.Way, adjust func(o *open.Options)) storetest.Opened {
	t.Helper()
	shared := open.NewShared()
	opt := open.Options{HTTP: http.Options{Stall: way.Stall}, Shared: shared, Form: store.Form{Key: way.Key}}
	if adjust != nil {
		adjust(&opt)
	}
	opt.HTTP.Client = http.NewClient(opt.HTTP)
	w, err := open.Writer(url, opt)
	if err != nil {
		t.Fatal(err)
	}
	return storetest.Opened{Writer: w, Where: where, Close: func() error {
		opt.HTTP.Client.CloseIdleConnections()
		return shared.Close()
	}}
}

// opened is a store in a backend.
func opened(t testing.TB, b store.Blobs, err error, key *store.Key, end func() error) storetest.Opened {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.Writable(b, store.Form{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return storetest.Opened{Writer: w, Where: b.String(), Close: end}
}

// put puts an object there with the backend itself.
func (b *faultBench) put(t testing.TB, name string, content []byte) {
	t.Helper()
	blobs, end := b.folder(t)
	defer end()
	if err := blobs.(store.Putter).Put(t.Context(), name, bytes.NewReader(content), int64(len(content))); err != nil {
		t.Fatal(err)
	}
}

// listed is what the backend itself lists.
func (b *faultBench) listed(t testing.TB) (names []string) {
	t.Helper()
	blobs, end := b.folder(t)
	defer end()
	for name, err := range blobs.(store.Lister).List(t.Context(), "") {
		if errors.Is(err, store.ErrMissing) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// objects are those that the backend itself finds.
func (b *faultBench) objects(t testing.TB) map[string][]byte {
	t.Helper()
	blobs, end := b.folder(t)
	defer end()
	all := map[string][]byte{}
	for _, name := range b.listed(t) {
		body, _, err := blobs.Open(t.Context(), name, store.Range{})
		if err != nil {
			t.Errorf("%s is listed: %v", name, err)
			continue
		}
		all[name], err = io.ReadAll(body)
		body.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	return all
}

func (b *faultBench) folder(t testing.TB) (blobs store.Blobs, end func()) {
	t.Helper()
	client := http.NewClient(http.Options{})
	blobs, _, err := open.Folder(b.url(""), open.Options{HTTP: http.Options{Client: client}})
	if err != nil {
		t.Fatal(err)
	}
	return blobs, client.CloseIdleConnections
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
}
