//go:build linux

package integration

import (
	"archive/tar"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/feature"
	"caravel/internal/testtree"
)

// gnuTar packs all that GNU tar keeps.
var gnuTar = []string{"--sort=name", "--format=pax", "--xattrs", "--xattrs-include=*", "--acls"}

// tarTree is a tree of which tar keeps all but sockets, and the archive that casync
// makes of it without them.
func tarTree(t *testing.T, seed uint64, opt testtree.Options) (dir, src string) {
	t.Helper()
	dir = t.TempDir()
	src = filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	opt.Root, opt.Nodes, opt.MaxName = os.Geteuid() == 0, 60, 237
	testtree.Generate(t, src, rand.New(rand.NewPCG(seed, 7)), opt)
	return dir, src
}

// fromTar is what make makes of a tar stream; what else a stream says of nodes that
// archives have no room for (attributes of devices, say) is left out.
func fromTar(t *testing.T, dir, stream string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(dir, "ours.caidx")
	must(t, caravel, append([]string{"make", "--best-effort", "--store=" + dir + "/ours.castr", out, stream}, args...)...)
	return read(t, out)
}

// fromTree is what casync makes of the tree itself.
func fromTree(t *testing.T, dir, src string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(dir, "casync.caidx")
	must(t, "casync", append([]string{"make", "--store=" + dir + "/casync.castr", out, src}, args...)...)
	return read(t, out)
}

// TestTarSameAsCasync checks that the image of a tar stream is, byte for byte, the one
// that casync makes of the tree; of a stream in another order, and packed, too.
func TestTarSameAsCasync(t *testing.T) {
	need(t, "tar", "casync")
	for seed := range uint64(times(4, 40)) {
		dir, src := tarTree(t, seed, testtree.Options{ACLs: true, XAttrs: true, Exclude: seed%2 == 0})
		want := fromTree(t, dir, src, "--without=sockets")
		stream := filepath.Join(dir, "src.tar")
		must(t, "tar", append(gnuTar, "-C", src, "-cf", stream, ".")...)
		if got := fromTar(t, dir, stream, "--without=sockets"); !bytes.Equal(got, want) {
			t.Errorf("seed %d: another image than casync's of the tree", seed)
			sayDifference(t, dir)
		}
		shuffled := filepath.Join(dir, "shuffled.tar")
		shuffle(t, stream, shuffled, rand.New(rand.NewPCG(seed, 8)))
		if got := fromTar(t, dir, shuffled, "--without=sockets"); !bytes.Equal(got, want) {
			t.Errorf("seed %d: another image of the stream in another order", seed)
			sayDifference(t, dir)
		}
		for _, packer := range []string{"gzip", "zstd", "xz", "bzip2"} {
			if _, err := exec.LookPath(packer); err != nil || seed > 0 {
				continue
			}
			packed := filepath.Join(dir, "src.packed")
			must(t, "sh", "-c", packer+" <"+stream+" >"+packed)
			if got := fromTar(t, dir, packed, "--without=sockets"); !bytes.Equal(got, want) {
				t.Errorf("another image of a stream packed with %s", packer)
			}
		}
	}
}

// sayDifference says in what two images differ.
func sayDifference(t *testing.T, dir string) {
	t.Helper()
	ours := must(t, caravel, "mtree", "--store="+dir+"/ours.castr", dir+"/ours.caidx")
	t.Log(firstDifference(must(t, caravel, "mtree", "--store="+dir+"/casync.castr", dir+"/casync.caidx"), ours))
}

// shuffle brings the members of a stream into another order.
func shuffle(t *testing.T, from, to string, rng *rand.Rand) {
	t.Helper()
	all := read(t, from)
	r := bytes.NewReader(all)
	stream := tar.NewReader(io.MultiReader(r)) // which does not seek
	var members [][]byte
	for end := 0; ; {
		h, err := stream.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		begin := end
		if end = len(all) - r.Len(); h.Typeflag == tar.TypeReg {
			end += int(h.Size+511) &^ 511
		}
		members = append(members, all[begin:end])
	}
	rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	members = append(members, make([]byte, 1024))
	if err := os.WriteFile(to, bytes.Join(members, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTarOfOthers checks streams of other programs, as far as these keep what there is.
func TestTarOfOthers(t *testing.T) {
	need(t, "casync")
	tests := []struct {
		name, program string
		opt           testtree.Options
		pack          func(src, stream string) []string
		with          []string
	}{
		// It has times before 1970 with a fraction in a form of its own, and takes the
		// mask of a list for nothing.
		{"bsdtar", "bsdtar", testtree.Options{XAttrs: true, Since1970: true}, func(src, stream string) []string {
			return []string{"--format=pax", "-C", src, "-cf", stream, "."}
		}, []string{"--without=sockets"}},
		// The others keep less.
		{"GNU tar's own format", "tar", testtree.Options{ShortIDs: true, Since1970: true}, func(src, stream string) []string {
			return []string{"--format=gnu", "-S", "-C", src, "-cf", stream, "."}
		}, []string{"--with=unix", "--without=sockets"}},
		{"Python", "python3", testtree.Options{ShortIDs: true, Since1970: true}, func(src, stream string) []string {
			return []string{"-c", `import sys, tarfile
t = tarfile.open(sys.argv[2], "w", format=tarfile.PAX_FORMAT)
t.add(sys.argv[1], arcname=".")
t.close()`, src, stream}
		}, []string{"--with=unix", "--without=sockets", "--without=sec-time"}}, // which are floating-point numbers there
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			need(t, tt.program)
			for seed := range uint64(times(2, 20)) {
				dir, src := tarTree(t, 100+seed, tt.opt)
				stream := filepath.Join(dir, "src.tar")
				must(t, tt.program, tt.pack(src, stream)...)
				if got := fromTar(t, dir, stream, tt.with...); !bytes.Equal(got, fromTree(t, dir, src, tt.with...)) {
					t.Errorf("seed %d: another image than casync's of the tree", seed)
					sayDifference(t, dir)
				}
			}
		})
	}
}

// TestUntar checks that what untar writes is, unpacked by GNU tar and in a directory, the
// tree.
func TestUntar(t *testing.T) {
	need(t, "tar")
	needRoot(t)
	for seed := range uint64(times(3, 30)) {
		dir, src := tarTree(t, 200+seed, testtree.Options{ACLs: true, XAttrs: true})
		image, to := filepath.Join(dir, "tree.caidx"), filepath.Join(dir, "tar")
		must(t, caravel, "tar", "-i", "--no-sync", image, src)
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		must(t, "sh", "-c", caravel+" untar --best-effort "+image+" - | tar --xattrs '--xattrs-include=*' --acls -px -C "+to)
		equalTrees(t, to, src, (feature.All &^ (feature.Sockets | feature.Chattr | feature.FATAttrs)).Normal())
		must(t, caravel, "untar", "-i", "--no-sync", image, dir+"/disk")
		equalTrees(t, dir+"/disk", src, feature.All.Normal())
	}
}

// TestUntarForBsdtar checks that bsdtar reads it, too. Of names that are not UTF-8 it
// complains and has them; the time of the root is as it is with its own streams.
func TestUntarForBsdtar(t *testing.T) {
	need(t, "bsdtar")
	needRoot(t)
	dir, src := tarTree(t, 230, testtree.Options{XAttrs: true, Since1970: true})
	image, to := filepath.Join(dir, "tree.caidx"), filepath.Join(dir, "tar")
	must(t, caravel, "make", "--no-sync", image, src)
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", caravel+" untar "+image+" - | bsdtar -px -C "+to)
	must(t, "touch", "-r", src, to)
	equalTrees(t, to, src, (feature.All &^ (feature.Sockets | feature.Chattr | feature.FATAttrs | feature.ACL)).Normal())
}

// equalTrees compares what f keeps of two trees.
func equalTrees(t *testing.T, got, want string, f feature.Flags) {
	t.Helper()
	diff, err := testtree.Diff(want, got, f)
	if err != nil || len(diff) > 0 {
		t.Errorf("%s: %v\n%s", filepath.Base(got), err, strings.Join(diff, "\n"))
	}
}

// TestUntarSparse checks that long runs of zeros take no room on the way.
func TestUntarSparse(t *testing.T) {
	need(t, "tar")
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	sparse := filepath.Join(src, "sparse")
	if err := os.WriteFile(sparse, []byte("at the beginning"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, 64<<20); err != nil {
		t.Fatal(err)
	}
	stream, to := filepath.Join(dir, "s.tar"), filepath.Join(dir, "to")
	must(t, caravel, "make", dir+"/t.caidx", src)
	must(t, caravel, "untar", "--format=pax", dir+"/t.caidx", stream)
	if n := len(read(t, stream)); n > 100<<10 {
		t.Errorf("a stream of %d bytes", n)
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "tar", "-C", to, "-xf", stream)
	equalTrees(t, to, src, feature.Unix.Normal())
	if n := strings.Fields(must(t, "du", "-k", to+"/sparse"))[0]; len(n) > 3 {
		t.Errorf("takes %s KiB", n)
	}
	if again := fromTar(t, dir, stream); !bytes.Equal(again, read(t, dir+"/t.caidx")) {
		t.Error("read back, it is another image")
	}
}

// TestTarLost checks that what cannot be kept is listed and makes the status 1, and
// that make then leaves nothing.
func TestTarLost(t *testing.T) {
	need(t, "python3")
	dir := t.TempDir()
	stream, image := filepath.Join(dir, "odd.tar"), filepath.Join(dir, "odd.caidx")
	must(t, "python3", "-c", `import io, sys, tarfile
t = tarfile.open(sys.argv[1], "w", format=tarfile.PAX_FORMAT)
for name, link in (("../out", ""), ("/abs", ""), ("hard", "nowhere"), ("fine", "")):
    i = tarfile.TarInfo(name)
    if link:
        i.type, i.linkname = tarfile.LNKTYPE, link
    t.addfile(i)
t.close()`, stream)
	got := run(t, caravel, "make", image, stream)
	for _, want := range []string{`../out\": has .. in its name`, `hard\": is a hard link to what is not in the tree`, `taken away" first=/abs`, "2 things cannot be kept; --best-effort"} {
		if got.status != 1 || !strings.Contains(got.stderr, want) {
			t.Errorf("status %d, %s\nwant %s", got.status, got.stderr, want)
		}
	}
	left, err := filepath.Glob(dir + "/odd.c*")
	if err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
	must(t, caravel, "make", "--best-effort", image, stream)
	if list := strings.Fields(must(t, caravel, "list", image)); !slices.Contains(list, "abs") || !slices.Contains(list, "fine") || len(list) != 6 {
		t.Errorf("%q", list)
	}
}

// TestTarDesync checks archives of each other's, by desync's names and flags.
func TestTarDesync(t *testing.T) {
	peer := desync(t)
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.MkdirAll(src+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	random(t, src+"/a/large", 700_000)
	random(t, src+"/a/b/small", 77)
	must(t, "sh", "-c", "cd "+src+" && ln -s a/b link && ln a/large hard && touch empty && chmod 4711 empty && touch -d @1234567890.987654321 a/b")
	kept := feature.UID32 | feature.NanoTime | feature.Permissions | feature.Symlinks
	if err := os.Mkdir(dir+"/st", 0o755); err != nil {
		t.Fatal(err)
	}
	// It reads neither labels nor capabilities of casync's archives without harm.
	without := []string{"--without=xattrs", "--without=fcaps", "--without=selinux", "--without=acl"}
	must(t, caravel, append([]string{"tar", "-i", "-s", dir + "/st", dir + "/ours.caidx", src}, without...)...)
	must(t, peer, "untar", "-i", "-s", dir+"/st", dir+"/ours.caidx", dir+"/theirs")
	must(t, "touch", "-h", "-r", src+"/link", dir+"/theirs/link") // it restores no times of links
	equalTrees(t, dir+"/theirs", src, kept)
	must(t, peer, "tar", "-i", "-s", dir+"/st", dir+"/theirs.caidx", src)
	must(t, caravel, "untar", "-i", "-s", dir+"/st", dir+"/theirs.caidx", dir+"/ours")
	equalTrees(t, dir+"/ours", src, kept)
	stream := run(t, "sh", "-c", caravel+" untar -i -s "+dir+"/st --output-format gnu-tar "+dir+"/theirs.caidx - | tar -t")
	if stream.status != 0 || strings.Count(stream.stdout, "\n") != 8 {
		t.Errorf("%+v", stream)
	}
	must(t, caravel, append([]string{"tar", dir + "/ours.catar", src}, without...)...)
	must(t, peer, "untar", dir+"/ours.catar", dir+"/from-archive")
	must(t, "touch", "-h", "-r", src+"/link", dir+"/from-archive/link")
	equalTrees(t, dir+"/from-archive", src, kept)
}
