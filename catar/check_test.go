package catar_test

import (
	"bytes"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/feature"
)

// What the malformed archives of testdata do not have.
func TestDecoderRefusesNodes(t *testing.T) {
	all := feature.Flags(feature.All | feature.SHA512_256).Normal()
	names := feature.UserNames | feature.Permissions
	acls := feature.ACL | feature.UserNames // without numbers
	const (
		dir, file, link, fifo = 0o40755, 0o100644, 0o120777, 0o10644

		user, group                 = 0xf453131aaeeaccb3, 0x25eb6ac969396a52
		aclGroup, aclDefault        = 0x36f2acb56cb3dd0b, 0xfe3eeda6823c8cd0
		defaultUser, defaultGroup   = 0xbdf03df9bd010a91, 0xa0cb1168782d1f51
		selinux, fcaps, quotaProjID = 0x46faf0602fd26c59, 0xf7267db0afed0629, 0x161baf2d8772a72b
		symlink, device             = 0x664a6fb6830e0d6c, 0xac3dace369dfe643
	)
	u64 := func(values ...uint64) string { return string(appendU64(nil, values...)) }
	node := func(f feature.Flags, mode uint64, records ...[]byte) []byte {
		return append(entry(f, mode), bytes.Join(records, nil)...)
	}
	with := func(f feature.Flags, mode, flags, uid, gid, mtime uint64, content []byte) []byte {
		return append(appendU64(nil, 64, typeEntry, uint64(f), mode, flags, uid, gid, mtime), content...)
	}
	payload, noChildren := record(typePayload, ""), directory(all)[64:]
	groupObj := record(typeGroupObj, u64(4))
	long := strings.Repeat("a", 256)
	tests := []struct {
		name  string
		flags feature.Flags
		node  []byte
		want  string // "": nothing is wrong
	}{
		{"two ENTRYs", all, node(all, file, entry(all, file), payload), "a second ENTRY in one node"},
		{"PAYLOAD of a directory", all, node(all, dir, payload), "PAYLOAD where the content of a directory should be"},
		{"PAYLOAD of a FIFO", all, node(all, fifo, payload), "PAYLOAD where the content of a FIFO should be"},
		{"DEVICE of a file", all, node(all, file, record(device, u64(1, 3))), "DEVICE where the content of a regular file should be"},
		{"device minor", all, node(all, 0o20644, record(device, u64(1, 1<<20))), "device 1:1048576"},
		{"device beyond 32 bits", all, node(all, 0o20644, record(device, u64(1, 1<<32))), "DEVICE: device 1:4294967296"},
		{"devices left out", all &^ feature.DeviceNodes, node(all&^feature.DeviceNodes, 0o20644, record(device, u64(1, 3))), "a device in an archive without device-nodes"},
		{"FIFOs left out", all &^ feature.FIFOs, node(all&^feature.FIFOs, fifo), "a FIFO in an archive without fifos"},
		{"sockets left out", all &^ feature.Sockets, node(all&^feature.Sockets, 0o140755), "a socket in an archive without sockets"},
		{"links left out", all &^ feature.Symlinks, node(all&^feature.Symlinks, link, record(symlink, "t\x00")), "a symbolic link in an archive without symlinks"},
		{"NUL in a target", all, node(all, link, record(symlink, "t\x00t\x00")), "SYMLINK: a NUL at byte 1 of 4"},
		{"target too long", all, node(all, link, record(symlink, strings.Repeat("t", 4096)+"\x00")), "SYMLINK of 4113 bytes, not 18 to 4112"},
		{"longest target", all, node(all, link, record(symlink, strings.Repeat("t", 4095)+"\x00")), ""},

		{"mode beyond 32 bits", all, node(all, 1<<32|file, payload), "mode 0x1000081a4"},
		{"permissions left out", feature.SHA512_256, node(feature.SHA512_256, file, payload), "mode 0100644, of which the archive's features keep 0100666"},
		{"read-only", feature.ReadOnly, node(feature.ReadOnly, 0o100444, payload), ""},
		{"permissions, read-only kept", feature.ReadOnly, node(feature.ReadOnly, 0o100644, payload), "mode 0100644, of which the archive's features keep 0100666"},
		{"flags of a FIFO", all, with(all, fifo, uint64(feature.Append), 0, 0, 0, nil), "flags 0x10000, of which the archive's features keep 0x0 in a FIFO"},
		{"subvolume that is a file", all, with(all, file, uint64(feature.Subvolume), 0, 0, 0, payload), "flags 0x4000000"},
		{"no subvolume, but read-only", all, with(all, dir, uint64(feature.SubvolumeRO), 0, 0, 0, noChildren), "flags 0x8000000"},
		{"no flag", all, with(all, file, uint64(feature.UID32), 0, 0, 0, payload), "flags 0x2"},
		{"time that is none", all, with(all, file, 0, 0, 0, 1<<64-1, payload), "time -1 ns, which means none"},
		{"time left out", names, with(names, file, 0, 0, 0, 1, payload), "time 1 ns, of which the archive's features keep 0"},
		{"microseconds", feature.MicroTime | names, with(feature.MicroTime|names, file, 0, 0, 0, 1000, payload), ""},
		{"owner left out", names, with(names, file, 0, 1, 0, 0, payload), "owner 1 in an archive without numbers of owners"},
		{"group beyond 16 bits", feature.UID16 | names, with(feature.UID16|names, file, 0, 0, 65536, 0, payload), "owner 65536, above what 16bit-uids holds"},
		{"group beyond 32 bits", all, with(all, file, 0, 0, 1<<32, 0, payload), "group 0x100000000"},

		{"number for a name", names, node(names, file, record(user, "1000\x00"), payload), ""},
		{"number of root", names, node(names, file, record(user, "0\x00"), payload), `user: name "0" has '0' in it`},
		{"number that is none", names, node(names, file, record(group, "65535\x00"), payload), `group: name "65535" has '6' in it`},
		{"number with a zero in front", names, node(names, file, record(user, "01\x00"), payload), `user: name "01" has '0' in it`},
		{"root by name", names, node(names, file, record(group, "root\x00"), payload), `group: name "root"`},
		{"empty name", names, node(names, file, record(user, "\x00"), payload), "USER of 17 bytes, not 18 to 272"},
		{"longest name", names, node(names, file, record(user, long[1:]+"\x00"), payload), ""},
		{"name too long", names, node(names, file, record(user, long+"\x00"), payload), "USER of 273 bytes"},

		{"attribute without a dot", all, node(all, file, record(typeXAttr, "user\x00"), payload), `extended attribute "user" has no valid name`},
		{"attribute with a dot first", all, node(all, file, record(typeXAttr, ".user\x00"), payload), `extended attribute ".user" has no valid name`},
		{"attribute with a dot last", all, node(all, file, record(typeXAttr, "user.\x00"), payload), `extended attribute "user." has no valid name`},
		{"attribute of a long name", all, node(all, file, record(typeXAttr, "user."+long[:251]+"\x00"), payload), "XATTR: no NUL behind the name"},
		{"attribute of the longest name and value", all, node(all, file, record(typeXAttr, "user."+long[:250]+"\x00"+strings.Repeat("v", 65536)), payload), ""},
		{"attribute of a long value", all, node(all, file, record(typeXAttr, "user.a\x00"+strings.Repeat("v", 65537)), payload), `extended attribute "user.a" of 65537 bytes, above 65536`},
		{"attribute of a link", all, node(all, link, record(typeXAttr, "user.a\x00"), record(symlink, "t\x00")), "extended attributes of a symbolic link"},
		{"attribute of the system", all, node(all, file, record(typeXAttr, "system.posix_acl_access\x00"), payload), "neither of user nor of trusted"},

		{"ACL of a link", all, node(all, link, groupObj, record(symlink, "t\x00")), "ACL of a symbolic link"},
		{"ACL with a mask alone", all, node(all, fifo, groupObj), ""},
		{"ACL, owner that is none", all, node(all, file, record(typeACLUser, u64(65535, 7)), groupObj, payload), "ACL: owner 65535"},
		{"ACL, owner beyond 32 bits", all, node(all, file, record(aclGroup, u64(1<<32, 7)), groupObj, payload), "ACL_GROUP: owner 4294967296"},
		{"ACL, empty name", all, node(all, file, record(typeACLUser, u64(1, 7)+"\x00"), groupObj, payload), "ACL_USER: an empty name"},
		{"ACL, name without its end", all, node(all, file, record(typeACLUser, u64(1, 7)+"a"), groupObj, payload), "ACL_USER: no NUL at the end"},
		{"ACL, bad name", all, node(all, file, record(typeACLUser, u64(1, 7)+"a.b\x00"), groupObj, payload), `ACL: name "a.b" has '.' in it`},
		{"ACL, name in an archive without", feature.ACL | feature.UID32, node(feature.ACL|feature.UID32, file, record(typeACLUser, u64(1, 7)+"a\x00"), groupObj, payload), `ACL: name "a" in an archive without names`},
		{"ACL, names only", acls, node(acls, file, record(typeACLUser, u64(0, 7)), record(typeACLUser, u64(0, 7)+"5\x00"), groupObj, payload), ""},
		{"ACL, number in an archive without", acls, node(acls, file, record(typeACLUser, u64(1, 7)), groupObj, payload), "ACL: owner 1 in an archive without numbers"},
		{"ACL, the same twice by another permission", all, node(all, file, record(typeACLUser, u64(1, 4)), record(typeACLUser, u64(1, 7)), groupObj, payload), ""},
		{"ACL, permission of the group", all, node(all, file, record(typeGroupObj, u64(8)), payload), "ACL_GROUP_OBJ: permission 010, above 7"},
		{"default ACL, permission", all, node(all, dir, record(aclDefault, u64(7, 7, 8, 1<<64-1)), noChildren), "ACL_DEFAULT: permission 010, above 7"},
		{"default ACL, mask", all, node(all, dir, record(aclDefault, u64(7, 7, 7, 1<<64-2)), noChildren), "ACL_DEFAULT: permission 01777777777777777777776, above 7"},
		{"default ACL, user without it", all, node(all, dir, record(defaultUser, u64(1, 7)), noChildren), "ACL_DEFAULT_USER: without an ACL_DEFAULT"},
		{"default ACL, group without it", all, node(all, dir, record(defaultGroup, u64(1, 7)), noChildren), "ACL_DEFAULT_GROUP: without an ACL_DEFAULT"},

		{"empty label", all, node(all, file, record(selinux, "\x00"), payload), "SELINUX of 17 bytes, not 18 to 4112"},
		{"NUL in a label", all, node(all, file, record(selinux, "a\x00b\x00"), payload), "SELINUX: a NUL at byte 1 of 4"},
		{"no capabilities", all, node(all, file, record(fcaps, ""), payload), "FCAPS of 16 bytes"},
		{"capabilities of a directory", all, node(all, dir, record(fcaps, "x"), noChildren), "capabilities of a directory"},
		{"no project", all, node(all, file, record(quotaProjID, u64(0)), payload), "QUOTA_PROJID: project 0, not 1 to 2^32-1"},
		{"project beyond 32 bits", all, node(all, file, record(quotaProjID, u64(1<<32)), payload), "QUOTA_PROJID: project 4294967296"},
		{"project of a FIFO", all, node(all, fifo, record(quotaProjID, u64(1))), "project id of a FIFO"},
		{"projects left out", names, node(names, file, record(quotaProjID, u64(1)), payload), "QUOTA_PROJID in an archive without quota-projid"},
	}
	for _, tt := range tests {
		f := tt.flags.Normal()
		archive := append(entry(f, 0o40777), record(typeFilename, "a\x00")...)
		start := uint64(len(archive) - 18)
		archive = append(archive, bytes.Replace(tt.node, appendU64(nil, uint64(tt.flags)), appendU64(nil, uint64(f)), 1)...)
		goodbye := uint64(len(archive))
		archive = append(archive, table([]item{{start, goodbye - start, siphash("a")}}, goodbye)...)
		stream := refused(bytes.NewReader(archive))
		_, random := random(archive)
		for way, err := range map[string]error{"stream": stream, "random": random} {
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s, %s: got %v, want %q", tt.name, way, err, tt.want)
			}
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{
		"a": true, "...": true, "..a": true, " ": true, "\xff": true, strings.Repeat("a", 255): true,
		"": false, ".": false, "..": false, "a/b": false, "/": false, "a\x00": false, strings.Repeat("a", 256): false,
	} {
		if err := catar.CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
