//go:build linux

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"caravel/store"
	"caravel/store/oci"
	"caravel/store/storetest"
)

// registryConf has these places: 1 the folder, 2 more of it.
const registryConf = `
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: "%[1]s/data"}
  delete: {enabled: true}
http: {addr: "127.0.0.1:0"}
%[2]s
`

// registryUsers has the password "secret word" for the user builder.
const registryUsers = "builder:$2a$04$wwtU.yiSMn39Rhk3lPJRXOvJsPw3g7yRKH/1H4g737zrQvQSPxr6C\n"

var listensOn = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// startRegistry starts the reference registry, and returns the URL of a part of it.
func startRegistry(t testing.TB, closed bool) (d *daemon, url string) {
	t.Helper()
	return startRegistryIn(t, t.TempDir(), closed)
}

// startRegistryIn has it keep all in a folder.
func startRegistryIn(t testing.TB, dir string, closed bool) (d *daemon, url string) {
	t.Helper()
	need(t, "docker-registry")
	more := ""
	if closed {
		users := filepath.Join(dir, "users")
		if err := os.WriteFile(users, []byte(registryUsers), 0o600); err != nil {
			t.Fatal(err)
		}
		more = fmt.Sprintf("auth: {htpasswd: {realm: tests, path: %q}}", users)
	}
	conf := filepath.Join(dir, "conf.yml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, registryConf, dir, more), 0o600); err != nil {
		t.Fatal(err)
	}
	d = start(t, "docker-registry", "serve", conf)
	eventually(t, "the registry listens", func() bool {
		found := listensOn.FindStringSubmatch(d.stderr.String())
		if found != nil {
			url = "oci+http://" + found[1] + "/images"
		}
		return found != nil
	})
	// Who starts it again finds it where it was.
	address, _, _ := strings.Cut(strings.TrimPrefix(url, "oci+http://"), "/")
	if err := os.WriteFile(conf, bytes.Replace(read(t, conf), []byte("127.0.0.1:0"), []byte(address), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	return d, url
}

// patient asks again where the answer may be another one: the registry fails those who
// read a tag while it is written.
type patient struct{ *oci.Repository }

func (p patient) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	return p.Refresh(ctx, name, r, store.Info{})
}

func (p patient) Refresh(ctx context.Context, name string, r store.Range, have store.Info) (body io.ReadCloser, info store.Info, err error) {
	again(func() error {
		body, info, err = p.Repository.Refresh(ctx, name, r, have)
		return err
	})
	return body, info, err
}

func (p patient) Stat(ctx context.Context, name string) (info store.Info, err error) {
	again(func() error {
		info, err = p.Repository.Stat(ctx, name)
		return err
	})
	return info, err
}

func again(f func() error) {
	for range 20 {
		if err := f(); err == nil || store.Final(err) {
			return
		}
	}
}

func TestRegistryBlobs(t *testing.T) {
	_, url := startRegistry(t, false)
	n := 0
	empty := func(t *testing.T) patient {
		t.Helper()
		n++
		r, err := oci.New(fmt.Sprintf("%s/test%d", url, n), oci.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return patient{r}
	}
	storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
		r := empty(t)
		for name, content := range objects {
			if err := r.Put(t.Context(), name, bytes.NewReader(content), int64(len(content))); err != nil {
				t.Fatal(err)
			}
		}
		return r
	})
	storetest.Run(t, func(t *testing.T) store.Writer {
		w, err := store.Writable(empty(t), store.Form{})
		if err != nil {
			t.Fatal(err)
		}
		return w
	})
	t.Run("large", func(t *testing.T) { // too much to be kept in memory
		r, content := empty(t), bytes.Repeat([]byte("0123456789abcdef"), 300_000)
		for _, size := range []int64{-1, int64(len(content))} {
			if err := r.Put(t.Context(), "large", bytes.NewReader(content), size); err != nil {
				t.Fatal(err)
			}
			body, _, err := r.Open(t.Context(), "large", store.Range{Off: 1_000_000, Len: 2_000_000})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, content[1_000_000:3_000_000]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			body.Close()
		}
		if err := r.Put(t.Context(), "less", strings.NewReader("more"), 3); err == nil {
			t.Error("more than was announced is taken")
		}
	})
}

// TestRegistryUsers asks a registry that lets in one user only.
func TestRegistryUsers(t *testing.T) {
	_, url := startRegistry(t, true)
	as := func(user, password string) store.Putter {
		r, err := oci.New(url+"/closed", oci.Options{User: user, Password: password})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := as("builder", "secret word").Put(t.Context(), "file", strings.NewReader("content"), 7); err != nil {
		t.Fatal(err)
	}
	for _, who := range [][2]string{{"", ""}, {"builder", "wrong"}, {"other", "secret word"}} {
		err := as(who[0], who[1]).Put(t.Context(), "file", strings.NewReader("content"), 7)
		if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", who, err)
		}
	}
	enter := func(cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), "DESYNC_OCI_USERNAME=builder", "DESYNC_OCI_PASSWORD=secret word")
	}
	complaint(t, runWith(t, enter, caravel, "list", url+"/closed/none.caidx"), url+"/closed/none.caidx", "404")
	complaint(t, run(t, caravel, "list", url+"/closed/none.caidx"), "401")

	// Who has logged in with docker or podman is known.
	home := t.TempDir()
	host := strings.TrimSuffix(strings.TrimPrefix(url, "oci+http://"), "/images")
	login := fmt.Sprintf(`{"auths": {%q: {"auth": "YnVpbGRlcjpzZWNyZXQgd29yZA=="}}}`, host)
	if err := os.WriteFile(home+"/config.json", []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	known := func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+home) }
	complaint(t, runWith(t, known, caravel, "list", url+"/closed/none.caidx"), "404")
}

// TestRegistry has an image, index and all, in a registry.
func TestRegistry(t *testing.T) {
	d, url := startRegistry(t, false)
	p := packTree(t, caravel, everything(t, 8))
	index := url + "/tree.caidx"
	if got := strings.TrimSpace(must(t, caravel, "make", index, p.source)); got != p.digest {
		t.Fatalf("made %s, want %s", got, p.digest)
	}
	if got := strings.TrimSpace(must(t, caravel, "digest", "--cache-dir=none", index)); got != p.digest {
		t.Errorf("digest %s, want %s", got, p.digest)
	}
	_, dir := mountedTree(t, "--cache-dir=none", index)
	showsTree(t, dir, p)

	// A disk, attached.
	image := p.path("disk.img")
	recipe{seed: 3, size: 3_000_000, kind: "random"}.write(t, image)
	must(t, caravel, "make", url+"/disk.caibx", image)
	if got := must(t, caravel, "cat", "--cache-dir=none", url+"/disk.caibx"); got != string(read(t, image)) {
		t.Errorf("cat: %d bytes", len(got))
	}
	t.Run("device", func(t *testing.T) {
		needRoot(t)
		m := start(t, caravel, "mkdev", "--via=loop", "--cache-dir=none", url+"/disk.caibx")
		device := strings.TrimSpace(strings.TrimPrefix(m.line(), "Attached: "))
		if got := read(t, device); !bytes.Equal(got[:3_000_000], read(t, image)) {
			t.Error("the device holds something else")
		}
		m.ends(syscall.SIGTERM, soon)
	})

	// Two at once, and one that is killed: what is there is what its name says.
	var both sync.WaitGroup
	for i := range 2 {
		both.Go(func() {
			x := p.path(fmt.Sprintf("two%d.caidx", i))
			if got := run(t, caravel, "make", "--store", url+"/both", x, p.source); strings.TrimSpace(got.stdout) != p.digest {
				t.Errorf("at once: %+v", got)
			}
		})
	}
	both.Wait()
	if got := strings.TrimSpace(must(t, caravel, "digest", "--cache-dir=none", "--store", url+"/both", p.path("two0.caidx"))); got != p.digest {
		t.Errorf("of two at once: %s", got)
	}
	if status := d.stop(syscall.SIGTERM); status == 0 {
		t.Log("the registry ended well")
	}
	complaint(t, run(t, caravel, "list", "--timeout=1s", "--cache-dir=none", index), index)
}
