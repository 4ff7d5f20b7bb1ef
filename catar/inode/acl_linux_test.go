package inode

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"caravel/catar"
)

// As the kernel gives it after
// setfacl -m u::rw,u:1:r,u:4711:rwx,g::r,g:50:-,m:rwx,o::-.
const someACL = "02000000" + "01000600ffffffff" + "0200040001000000" + "0200070067120000" + "04000400ffffffff" +
	"0800000032000000" + "10000700ffffffff" + "20000000ffffffff"

func TestACL(t *testing.T) {
	b, err := hex.DecodeString(someACL)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseACL(b)
	if err != nil {
		t.Fatal(err)
	}
	if r.userObj != 6 || r.groupObj != 4 || r.other != 0 || !r.masked || r.mask != 7 ||
		!slices.Equal(r.users, []catar.ACLEntry{{ID: 1, Perm: 4}, {ID: 4711, Perm: 7}}) ||
		!slices.Equal(r.groups, []catar.ACLEntry{{ID: 50}}) {
		t.Errorf("got %+v", r)
	}
	if got := r.bytes(); !bytes.Equal(got, b) {
		t.Errorf("written back: %x", got)
	}
}

func TestACLRefused(t *testing.T) {
	const minimal = "0100060000000000" + "0400040000000000" + "2000000000000000"
	for name, text := range map[string]string{
		"nothing":         "",
		"version":         "01000000" + minimal,
		"length":          "02000000" + minimal + "00",
		"no entries":      "02000000",
		"no other":        "02000000" + minimal[:32],
		"tag":             "02000000" + minimal + "4000000000000000",
		"two tags in one": "02000000" + minimal + "0300000000000000",
		"permissions":     "02000000" + minimal + "1000080000000000",
		"no mask":         "02000000" + minimal + "0200040001000000",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parseACL(b); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestSortACL(t *testing.T) {
	all := []catar.ACLEntry{{ID: 2}, {ID: 1, Name: "b"}, {ID: 1, Name: "a", Perm: 4}, {ID: 1, Perm: 7}, {ID: 1, Perm: 1}, {ID: 1, Name: "a"}}
	sortACL(all)
	want := []catar.ACLEntry{{ID: 1, Perm: 1}, {ID: 1, Perm: 7}, {ID: 1, Name: "a"}, {ID: 1, Name: "a", Perm: 4}, {ID: 1, Name: "b"}, {ID: 2}}
	if !slices.Equal(all, want) {
		t.Errorf("got %v", all)
	}
}

// FuzzACL: what is read and written is read as the same, and never longer.
func FuzzACL(f *testing.F) {
	b, err := hex.DecodeString(someACL)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseACL(b)
		if err != nil {
			return
		}
		once := r.bytes()
		if len(once) > len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(once))
		}
		again, err := parseACL(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice := again.bytes(); !bytes.Equal(once, twice) {
			t.Errorf("%x, then %x", once, twice)
		}
	})
}
