package ocilayout_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"caravel/catar"
	"caravel/feature"
	"caravel/layers"
	"caravel/ocilayout"
)

// A layout is one that a test makes.
type layout struct {
	t   *testing.T
	dir string
	idx v1.Index
}

func newLayout(t *testing.T) *layout {
	l := &layout{t: t, dir: t.TempDir()}
	l.write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return l
}

func (l *layout) write(name string, content []byte) {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// blob adds one.
func (l *layout) blob(mediaType string, content []byte) v1.Descriptor {
	l.t.Helper()
	d := digest.FromBytes(content)
	l.write("blobs/sha256/"+d.Encoded(), content)
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
}

func (l *layout) json(mediaType string, v any) v1.Descriptor {
	l.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(mediaType, b)
}

// image adds one of layers, each of which is a tar stream, for a platform. Its second
// layer is packed with gzip, its third with zstd.
func (l *layout) image(platform v1.Platform, streams ...[]byte) v1.Descriptor {
	l.t.Helper()
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	config := v1.Image{Platform: platform}
	for i, s := range streams {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(s))
		mediaType, packed := packedAs(l.t, i, s)
		m.Layers = append(m.Layers, l.blob(mediaType, packed))
	}
	m.Config = l.json(v1.MediaTypeImageConfig, config)
	d := l.json(v1.MediaTypeImageManifest, m)
	d.Platform = &platform
	return d
}

func packedAs(t *testing.T, i int, s []byte) (string, []byte) {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	mediaType := v1.MediaTypeImageLayer
	switch i % 3 {
	case 0:
		return mediaType, s
	case 1:
		mediaType, w = v1.MediaTypeImageLayerGzip, gzip.NewWriter(&b)
	default:
		mediaType = v1.MediaTypeImageLayerZstd
		w, err = zstd.NewWriter(&b)
	}
	if err == nil {
		_, err = w.Write(s)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return mediaType, b.Bytes()
}

// add puts descriptors into the index.
func (l *layout) add(tag string, d v1.Descriptor) {
	l.t.Helper()
	if tag != "" {
		d.Annotations = map[string]string{v1.AnnotationRefName: tag}
	}
	l.idx.Manifests = append(l.idx.Manifests, d)
	b, err := json.Marshal(l.idx)
	if err != nil {
		l.t.Fatal(err)
	}
	l.write("index.json", b)
}

// files is a tar stream of files, "name=content".
func files(t *testing.T, words ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, word := range words {
		name, content, _ := strings.Cut(word, "=")
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpacked is what is in an image, as words.
func unpacked(t *testing.T, ref string, opt ocilayout.Options) (string, error) {
	t.Helper()
	path, tag := ocilayout.Split(ref)
	img, err := ocilayout.Open(t.Context(), path, tag, opt)
	if err != nil {
		return "", err
	}
	defer img.Close()
	tree, err := layers.New(layers.Options{Layered: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := img.Unpack(t.Context(), tree); err != nil {
		return "", err
	}
	s, err := tree.Stream(t.Context(), feature.Permissions)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []string
	d := catar.NewDecoder(s, catar.DecoderOptions{})
	for {
		n, err := d.Next()
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			return strings.Join(all, " "), nil
		}
		content, _ := io.ReadAll(d)
		if n.Depth > 0 {
			all = append(all, n.Name+"="+string(content))
		}
	}
}

var here = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}

// tarOf packs a directory.
func tarOf(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	tw := tar.NewWriter(w)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "layout.tar.gz")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnpack(t *testing.T) {
	l := newLayout(t)
	l.add("v1", l.image(here, files(t, "a=1", "b=1"), files(t, ".wh.a=", "c=2"), files(t, "c=3")))
	for _, path := range []string{l.dir, tarOf(t, l.dir)} {
		for _, ref := range []string{path, path + ":v1", path + "@" + l.idx.Manifests[0].Digest.String()} {
			if got, err := unpacked(t, ref, ocilayout.Options{}); err != nil || got != "b=1 c=3" {
				t.Errorf("%s: %q, %v", ref, got, err)
			}
		}
	}
}

func TestChoose(t *testing.T) {
	arm := v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	other := v1.Platform{OS: "plan9", Architecture: "mips"}
	many := newLayout(t)
	var nested v1.Index
	for _, p := range []v1.Platform{arm, here, {OS: "unknown", Architecture: "unknown"}} {
		nested.Manifests = append(nested.Manifests, many.image(p, files(t, p.Architecture+"=1")))
	}
	many.add("all", many.json(v1.MediaTypeImageIndex, nested))
	many.add("repo:other", many.image(other, files(t, "other=1")))
	one := newLayout(t)
	one.add("", one.image(other, files(t, "other=1")))

	tests := []struct{ ref, platform, want string }{
		{many.dir + ":all", "", runtime.GOARCH + "=1"},
		{many.dir + ":all", "linux/arm/v7", "arm=1"},
		{many.dir + ":all", "linux/arm", "arm=1"},
		{many.dir + ":all", "linux/s390", `no image for linux/s390; there are "linux/arm/v7", "linux/` + runtime.GOARCH + `"`},
		{many.dir + ":repo:other", "", "other=1"},
		{many.dir + ":none", "", `no image "none"; there are "all", "repo:other"`},
		{many.dir, "", `several images; say which one: "all", "repo:other"`},
		{one.dir, "", "other=1"},
		{one.dir, "plan9/mips", "other=1"},
		{one.dir, "linux/amd64", `no image for linux/amd64; there are "plan9/mips"`},
		{t.TempDir(), "", "neither an OCI image layout nor what docker save writes"},
		{filepath.Join(t.TempDir(), "none"), "", "no such file"},
	}
	for _, tt := range tests {
		got, err := unpacked(t, tt.ref, ocilayout.Options{Platform: tt.platform})
		if err != nil {
			got = err.Error()
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
			t.Errorf("%s for %q: %s, want %s", tt.ref, tt.platform, got, tt.want)
		}
	}
}

// TestSpoiled changes each file of a layout, and whatever it is, that is found out.
func TestSpoiled(t *testing.T) {
	l := newLayout(t)
	l.add("", l.image(here, files(t, "a=1"), files(t, "b=2"), files(t, "c=3")))
	err := fs.WalkDir(os.DirFS(l.dir), "blobs", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		path := filepath.Join(l.dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, spoilt := range [][]byte{append([]byte{content[0] ^ 1}, content[1:]...), content[:len(content)-1], append(slices.Clone(content), 0)} {
			if err := os.WriteFile(path, spoilt, 0o644); err != nil {
				return err
			}
			if got, err := unpacked(t, l.dir, ocilayout.Options{}); err == nil || !strings.Contains(err.Error(), "digest mismatch") && !strings.Contains(err.Error(), "bytes, not") {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		if _, err := unpacked(t, l.dir, ocilayout.Options{}); err == nil || !strings.Contains(err.Error(), "is not there") {
			t.Errorf("%s: %v", name, err)
		}
		return os.WriteFile(path, content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRefused checks what hostile layouts, or those of something else, are told.
func TestRefused(t *testing.T) {
	tests := []struct {
		name string
		make func(l *layout)
		want string
	}{
		{"another version", func(l *layout) { l.write("oci-layout", []byte(`{"imageLayoutVersion":"2.0.0"}`)) }, `version "2.0.0"`},
		{"no JSON", func(l *layout) { l.write("index.json", []byte(`{`)) }, "index.json: unexpected EOF"},
		{"a huge index", func(l *layout) { l.write("index.json", make([]byte, 5<<20)) }, "above 4194304"},
		{"a digest that is a path", func(l *layout) {
			l.add("", v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: "sha256:../../../etc/passwd", Size: 5})
		}, "invalid checksum digest"},
		{"an unknown kind of layer", func(l *layout) {
			d := l.blob(v1.MediaTypeImageLayerGzip+"+encrypted", []byte("x"))
			l.add("", l.json(v1.MediaTypeImageManifest, v1.Manifest{Layers: []v1.Descriptor{d},
				Config: l.json(v1.MediaTypeImageConfig, v1.Image{RootFS: v1.RootFS{DiffIDs: []digest.Digest{d.Digest}}})}))
		}, `is of the type "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"`},
		{"no image", func(l *layout) {
			l.add("", l.json(v1.MediaTypeImageManifest, v1.Manifest{Config: l.blob("application/vnd.acme", []byte("{}"))}))
		}, `a configuration of the type "application/vnd.acme"`},
		{"layers that the configuration does not know", func(l *layout) {
			l.add("", l.json(v1.MediaTypeImageManifest, v1.Manifest{Layers: []v1.Descriptor{l.blob(v1.MediaTypeImageLayer, []byte("x"))},
				Config: l.json(v1.MediaTypeImageConfig, v1.Image{})}))
		}, "1 layers, of which the configuration knows 0"},
		{"a packed layer with something else in it", func(l *layout) {
			mediaType, packed := packedAs(l.t, 1, files(l.t, "a=1"))
			l.add("", l.json(v1.MediaTypeImageManifest, v1.Manifest{Layers: []v1.Descriptor{l.blob(mediaType, packed)},
				Config: l.json(v1.MediaTypeImageConfig, v1.Image{RootFS: v1.RootFS{DiffIDs: []digest.Digest{digest.FromString("b")}}})}))
		}, "digest mismatch of what is in it"},
		{"an index in itself, nearly", func(l *layout) {
			d := l.image(here)
			for range 5 {
				d = l.json(v1.MediaTypeImageIndex, v1.Index{Manifests: []v1.Descriptor{d}})
			}
			l.add("", d)
		}, "more than 4 indexes"},
		{"too many images", func(l *layout) { l.write("index.json", []byte(`{"manifests":[{}`+strings.Repeat(",{}", 10000)+`]}`)) }, "index.json: a list of more than 10000"},
		{"too many to name", func(l *layout) {
			l.write("index.json", []byte(`{"manifests":[{"digest":"a\nb"}`+strings.Repeat(`,{"digest":"c"}`, 9999)+`]}`))
		}, `say which one: "a\nb", ` + strings.Repeat(`"c", `, 18) + `"c" and 9980 more`},
		{"too many layers", func(l *layout) {
			l.add("", l.blob(v1.MediaTypeImageManifest, []byte(`{"layers":[{}`+strings.Repeat(",{}", 10000)+`]}`)))
		}, "a list of more than 10000"},
		{"a list that is none", func(l *layout) { l.write("index.json", []byte(`{"manifests":{}}`)) }, "index.json: not a list"},
		{"nothing in the index", func(l *layout) { l.write("index.json", []byte(`{}`)) }, "no image in it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLayout(t)
			tt.make(l)
			if got, err := unpacked(t, l.dir, ocilayout.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q, %v, want %s", got, err, tt.want)
			}
		})
	}
}

// TestDockerSave checks the older form, in which a layer may be a link to one that came
// before.
func TestDockerSave(t *testing.T) {
	dir := t.TempDir()
	l := &layout{t: t, dir: dir}
	first, second := files(t, "a=1"), files(t, "b=2")
	config, err := json.Marshal(v1.Image{Platform: here, RootFS: v1.RootFS{DiffIDs: []digest.Digest{digest.FromBytes(first), digest.FromBytes(second)}}})
	if err != nil {
		t.Fatal(err)
	}
	name := digest.FromBytes(config).Encoded() + ".json"
	l.write(name, config)
	l.write("one/layer.tar", first)
	l.write("two/layer.tar", second)
	l.write("manifest.json", []byte(`[{"Config":"`+name+`","RepoTags":["repo:v1"],"Layers":["one/layer.tar","two/layer.tar"]}]`))
	for _, path := range []string{dir, tarOf(t, dir)} {
		for _, ref := range []string{path, path + ":repo:v1"} {
			if got, err := unpacked(t, ref, ocilayout.Options{}); err != nil || got != "a=1 b=2" {
				t.Errorf("%s: %q, %v", ref, got, err)
			}
		}
		if _, err := unpacked(t, path+":v2", ocilayout.Options{}); err == nil || !strings.Contains(err.Error(), `0 images "v2", not one; there are "repo:v1"`) {
			t.Error(err)
		}
	}
	l.write("two/layer.tar", first)
	if _, err := unpacked(t, dir, ocilayout.Options{}); err == nil || !strings.Contains(err.Error(), "digest mismatch") {
		t.Error(err)
	}
	l.write(name, append(config, ' '))
	if _, err := unpacked(t, dir, ocilayout.Options{}); err == nil || !strings.Contains(err.Error(), name+": digest mismatch") {
		t.Error(err)
	}
}
