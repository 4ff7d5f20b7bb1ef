//go:build linux

package integration

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"caravel/feature"
	"caravel/internal/testtree"
)

// TestContainerImages checks images of containers, whose layers umoci makes: what comes
// of them is what umoci unpacks, and the same from skopeo's and docker's forms.
func TestContainerImages(t *testing.T) {
	need(t, "umoci", "casync")
	needRoot(t)
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	image := layout + ":v1"
	must(t, "umoci", "init", "--layout", layout)
	must(t, "umoci", "new", "--image", image)
	rng := rand.New(rand.NewPCG(9, 9))
	step := func(name string, change func(root string)) {
		bundle := filepath.Join(dir, name)
		must(t, "umoci", "unpack", "--image", image, bundle)
		change(filepath.Join(bundle, "rootfs"))
		must(t, "umoci", "repack", "--image", image, bundle)
	}
	step("first", func(root string) {
		must(t, "mkdir", root+"/a")
		testtree.Generate(t, root+"/a", rng, testtree.Options{Root: true, XAttrs: true, Since1970: true, MaxName: 200})
		must(t, "sh", "-c", "cd "+root+" && mkdir -p usr/lib b/c d opaque && ln -s usr/lib lib && echo 1 >b/c/f && echo 1 >b/g && ln b/g b/h && echo 1 >d/x && echo 1 >opaque/gone && echo 1 >swap && find . -type s -delete")
	})
	step("second", func(root string) {
		must(t, "sh", "-c", "cd "+root+" && rm -r b/c && echo 2 >>b/g && rm swap && mkdir swap && echo 2 >swap/in && rm -r d && echo 2 >d && echo 2 >lib/new && chmod 4711 b/g && setfattr -n user.second -v 2 b")
	})
	if err := os.Mkdir(dir+"/fresh", 0o750); err != nil {
		t.Fatal(err)
	}
	random(t, dir+"/fresh/new", 100_000)
	must(t, "umoci", "insert", "--opaque", "--image", image, dir+"/fresh", "/opaque")

	must(t, "umoci", "unpack", "--image", image, dir+"/want")
	// The tree has attributes of a namespace that archives have not.
	made := must(t, caravel, "make", "--best-effort", "--no-sync", dir+"/v1.caidx", "oci:"+image)
	must(t, caravel, "extract", "--no-sync", dir+"/v1.caidx", dir+"/got")
	equalTrees(t, dir+"/got", dir+"/want/rootfs", (feature.All &^ (feature.Chattr | feature.FATAttrs)).Normal())

	need(t, "skopeo")
	for form, ref := range map[string]string{
		"oci":            "oci:" + dir + "/copy:v1",
		"oci-archive":    "oci-archive:" + dir + "/copy.tar:v1",
		"docker-archive": "docker-archive:" + dir + "/docker.tar:repo:v1",
	} {
		must(t, "skopeo", "--insecure-policy", "copy", "oci:"+image, ref)
		if again := must(t, caravel, "make", "--best-effort", "--no-store", dir+"/again.caidx", ref); again != made || !bytes.Equal(read(t, dir+"/again.caidx"), read(t, dir+"/v1.caidx")) {
			t.Errorf("another image of the form %s", form)
		}
	}
	none := run(t, caravel, "make", "--platform=linux/s390x", dir+"/none.caidx", "oci:"+image)
	if _, err := os.Stat(dir + "/none.caidx"); none.status != 1 || err == nil {
		t.Errorf("for a platform that there is no image for: %+v, %v", none, err)
	}
}
