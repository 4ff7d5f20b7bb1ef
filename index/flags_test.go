package index

import (
	"math"
	"testing"

	"caravel/chunker"
)

func TestNormal(t *testing.T) {
	for _, tt := range []struct{ flags, want Flags }{
		{acl, acl | uids32 | userNames},
		{acl | uids16, acl | uids16},
		{acl | userNames, acl | userNames},
		{uids16 | uids32, uids32},
		{timeNano | timeMicro | timeSec | timeTwoSec, timeNano},
		{timeMicro | timeSec | timeTwoSec, timeMicro},
		{timeSec | timeTwoSec, timeSec},
		{acl | uids32 | permissions | readOnly, acl | uids32},
		{permissions | readOnly, permissions},
		{ExcludeNodump | nodump, ExcludeNodump},
		{subvolumeRO, subvolumeRO | subvolume},
		{subvolume, subvolume},
		// What casync makes of options; the last four name everything there is.
		{entryFlags | ExcludeNodump | ExcludeFile | FlagSHA512_256, 0xb0000001ffeffe26},
		{entryFlags | ExcludeFile | FlagSHA512_256, 0x30000001fffffe26},
		{entryFlags | ExcludeNodump | ExcludeFile, 0x90000001ffeffe26},
		{knownFlags, 0xf0000001ffeffe26},
	} {
		if got := tt.flags.normal(); got != tt.want {
			t.Errorf("%#x: got %#x, want %#x", uint64(tt.flags), uint64(got), uint64(tt.want))
		}
	}
}

// The values that casync and desync write are normal and known.
func TestFlagsOfThePeers(t *testing.T) {
	for _, f := range []Flags{
		0, BlobFlags(chunker.SHA512_256), BlobFlags(chunker.SHA256),
		0xb0000001ffeffe26, 0x20000001fffffe26, 0x30000001fffffe26, 0xb000000000001f09, 0xb00000000000e0c0,
		0xb000000003ef0000, 0xb0000001ec414406, 0xb000000013efff22, 0xb000000020000006, 0xf0000001ffeffe26,
		0xa000000000000000, 0x8000000000000000, 0xb000000010001f22,
	} {
		x := Index{Flags: f, Params: chunker.DefaultParams()}
		if err := x.check(); err != nil {
			t.Error(err)
		}
	}
	if BlobFlags(chunker.SHA512_256) != 0xb000000000000000 || BlobFlags(chunker.SHA256) != 0x9000000000000000 {
		t.Error("BlobFlags: not what casync writes")
	}
}

// The sum of all chunks must stay within the offsets that there are.
func TestBuilderOverflow(t *testing.T) {
	b := NewBuilder(0, chunker.DefaultParams())
	b.x.rows = []row{{end: math.MaxInt64 - 1000}}
	if err := b.Append(chunker.ID{}, 1001); err == nil ||
		err.Error() != "index: chunk 1 at 9223372036854774807: 1001 bytes, which ends beyond 2^63-1" {
		t.Errorf("got %v", err)
	}
	if err := b.Append(chunker.ID{}, 1000); err != nil {
		t.Error(err)
	}
	if got := b.Index().Size(); got != math.MaxInt64 {
		t.Errorf("size %d", got)
	}
}
