package ocilayout

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's words for what the OCI took over from it.
const (
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs."

	ociLayer       = "application/vnd.oci.image.layer."
	containerdName = "io.containerd.image.name"
	attestation    = "vnd.docker.reference.type"
)

// maxNested is how many indexes may lie in one another.
const maxNested = 4

// findOCI finds the layers of an image in a layout.
func (img *Image) findOCI(ctx context.Context, tag, platform string) error {
	var idx index
	if err := img.decode("index.json", &idx); err != nil {
		return err
	}
	all := []v1.Descriptor(idx.Manifests)
	if tag != "" {
		all = slices.DeleteFunc(slices.Clone(all), func(d v1.Descriptor) bool { return !called(d, tag) })
		if len(all) == 0 {
			return fmt.Errorf("no image %q; there are %s", tag, names(idx.Manifests))
		}
	}
	for range maxNested {
		d, err := choose(all, platform)
		if err != nil {
			return err
		}
		switch d.MediaType {
		case v1.MediaTypeImageIndex, dockerList:
			var nested index
			if err := img.decodeBlob(ctx, d, &nested); err != nil {
				return err
			}
			all = nested.Manifests
		case v1.MediaTypeImageManifest, dockerManifest:
			return img.manifest(ctx, d, platform)
		default:
			return fmt.Errorf("%.100q: is %.300q, no image", d.Digest, d.MediaType)
		}
	}
	return fmt.Errorf("more than %d indexes in one another", maxNested)
}

// called reports whether a user means d by a tag, or by a digest.
func called(d v1.Descriptor, tag string) bool {
	return d.Annotations[v1.AnnotationRefName] == tag || d.Annotations[containerdName] == tag || string(d.Digest) == tag
}

// names are those of images, for people.
func names(all []v1.Descriptor) string {
	var list []string
	for _, d := range all {
		name := d.Annotations[v1.AnnotationRefName]
		if name == "" {
			name = d.Digest.String()
		}
		list = append(list, name)
	}
	return quoted(list)
}

// maxQuoted is how many names are listed.
const maxQuoted = 20

// quoted is a list of what a stranger wrote.
func quoted(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	var list []string
	for _, name := range names[:min(len(names), maxQuoted)] {
		list = append(list, fmt.Sprintf("%.300q", name))
	}
	text := strings.Join(list, ", ")
	if more := len(names) - len(list); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// choose chooses one of an index.
func choose(all []v1.Descriptor, platform string) (v1.Descriptor, error) {
	// What says where an image is from is no image.
	all = slices.DeleteFunc(slices.Clone(all), func(d v1.Descriptor) bool {
		return d.Annotations[attestation] != "" || d.ArtifactType != "" ||
			d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
	})
	if len(all) == 1 && (platform == "" || all[0].Platform == nil) {
		return all[0], nil
	}
	want := platform
	if want == "" {
		want = "linux/" + runtime.GOARCH
	}
	var fit []v1.Descriptor
	var there []string
	for _, d := range all {
		if d.Platform == nil {
			return d, fmt.Errorf("several images; say which one: %s", names(all))
		}
		there = append(there, platformOf(*d.Platform))
		if fits(*d.Platform, want) {
			fit = append(fit, d)
		}
	}
	switch {
	case len(all) == 0:
		return v1.Descriptor{}, errors.New("no image in it")
	case len(fit) == 0:
		return v1.Descriptor{}, fmt.Errorf("no image for %s; there are %s", want, quoted(there))
	case len(fit) > 1:
		return v1.Descriptor{}, fmt.Errorf("%d images for %s: say which one, of %s for %s", len(fit), want, names(all), quoted(there))
	}
	return fit[0], nil
}

// platformOf is a platform as a user writes it. The variant of arm64 goes without
// saying.
func platformOf(p v1.Platform) string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" && (p.Architecture != "arm64" || p.Variant != "v8") {
		text += "/" + p.Variant
	}
	return text
}

// fits reports whether a platform is the one that is wanted, with any variant if none
// was said.
func fits(p v1.Platform, want string) bool {
	return platformOf(p) == want || p.OS+"/"+p.Architecture == want || p.OS+"/"+p.Architecture+"/"+p.Variant == want
}

// manifest takes the layers of an image.
func (img *Image) manifest(ctx context.Context, d v1.Descriptor, platform string) error {
	var m manifest
	if err := img.decodeBlob(ctx, d, &m); err != nil {
		return err
	}
	if t := m.Config.MediaType; t != v1.MediaTypeImageConfig && t != dockerConfig {
		return fmt.Errorf("%s: has a configuration of the type %.300q, so it is no container's image", d.Digest, t)
	}
	var c config
	if err := img.decodeBlob(ctx, m.Config, &c); err != nil {
		return err
	}
	if err := checkConfig(c, len(m.Layers), platform); err != nil {
		return err
	}
	for i, l := range m.Layers {
		known := strings.HasPrefix(l.MediaType, ociLayer) || strings.HasPrefix(l.MediaType, dockerLayer)
		if !known || strings.HasSuffix(l.MediaType, "+encrypted") {
			return fmt.Errorf("layer %d: is of the type %.300q", i+1, l.MediaType)
		}
		name, err := blobName(l.Digest)
		if err != nil {
			return err
		}
		img.layers = append(img.layers, layer{name, l.Digest, l.Size, c.RootFS.DiffIDs[i]})
	}
	return nil
}

// checkConfig looks at what an image's configuration says of its n layers.
func checkConfig(c config, n int, platform string) error {
	if platform != "" && !fits(c.Platform, platform) {
		return fmt.Errorf("the image is for %s, not %s", platformOf(c.Platform), platform)
	}
	if len(c.RootFS.DiffIDs) != n {
		return fmt.Errorf("%d layers, of which the configuration knows %d", n, len(c.RootFS.DiffIDs))
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("digest %.100q of what is in layer %d: %w", d, i+1, err)
		}
	}
	return nil
}

// A saved image is one of docker save.
type saved struct {
	Config   string
	RepoTags list[string]
	Layers   list[string]
}

// findDocker finds the layers of an image that docker saved.
func (img *Image) findDocker(ctx context.Context, tag, platform string) error {
	var all list[saved]
	if err := img.decode("manifest.json", &all); err != nil {
		return err
	}
	var fit []saved
	var there []string
	for _, s := range all {
		there = append(there, s.RepoTags...)
		if tag == "" || s.called(tag) {
			fit = append(fit, s)
		}
	}
	if len(fit) != 1 {
		return fmt.Errorf("%d images %q, not one; there are %s", len(fit), tag, quoted(there))
	}
	s := fit[0]
	if d := s.digest(); d != "" {
		blob, err := img.files.open(s.Config)
		if err != nil {
			return err
		}
		if err := verify(ctx, blob, d); err != nil {
			return fmt.Errorf("%s: %w", s.Config, err)
		}
	}
	var c config
	if err := img.decode(s.Config, &c); err != nil {
		return err
	}
	if err := checkConfig(c, len(s.Layers), platform); err != nil {
		return err
	}
	for i, name := range s.Layers {
		img.layers = append(img.layers, layer{name: name, size: -1, plain: c.RootFS.DiffIDs[i]})
	}
	return nil
}

// called reports whether a user means s by a tag, or by a digest. What is left out of a
// tag is Docker's own registry.
func (s saved) called(tag string) bool {
	for _, prefix := range []string{"", "docker.io/", "docker.io/library/"} {
		if slices.Contains(s.RepoTags, prefix+tag) {
			return true
		}
	}
	return s.digest().String() == tag
}

// digest is that of the configuration, after which its file is called; "" if it is
// called otherwise.
func (s saved) digest() digest.Digest {
	d := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(path.Base(s.Config), ".json"))
	if d.Validate() != nil {
		return ""
	}
	return d
}
