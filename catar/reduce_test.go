package catar_test

import (
	"reflect"
	"testing"

	"caravel/catar"
	"caravel/feature"
)

func TestReduce(t *testing.T) {
	const dir, file, link = 0o40000, 0o100000, 0o120000
	names := []catar.ACLEntry{{ID: 0, Perm: 1, Name: "root"}, {ID: 5, Perm: 2, Name: "a.b"}, {ID: 9, Perm: 4, Name: "games"}}
	acl := &catar.ACL{Masked: true, GroupObj: 4, Users: names, Default: &catar.DefaultACL{Masked: true, Groups: names}}
	tests := []struct {
		name  string
		flags feature.Flags
		from  catar.Entry
		want  catar.Entry
	}{
		{"permissions", feature.Permissions, catar.Entry{Mode: file | 0o7751}, catar.Entry{Mode: file | 0o7751}},
		{"permissions by acl", feature.ACL, catar.Entry{Mode: file | 0o7751}, catar.Entry{Mode: file | 0o7751}},
		{"none", 0, catar.Entry{Mode: file | 0o7751}, catar.Entry{Mode: file | 0o666}},
		{"none, directory", 0, catar.Entry{Mode: dir | 0o1700}, catar.Entry{Mode: dir | 0o777}},
		{"read-only", feature.ReadOnly, catar.Entry{Mode: file | 0o551}, catar.Entry{Mode: file | 0o444}},
		{"read-only, writable by one", feature.ReadOnly, catar.Entry{Mode: file | 0o002}, catar.Entry{Mode: file | 0o666}},
		{"read-only, directory", feature.ReadOnly, catar.Entry{Mode: dir | 0o500}, catar.Entry{Mode: dir | 0o555}},
		{"link", feature.Permissions, catar.Entry{Mode: link | 0o700, Target: "t"}, catar.Entry{Mode: link | 0o777, Target: "t"}},
		{"link with what it has not", feature.Flags(feature.All).Normal(),
			catar.Entry{Mode: link | 0o777, Target: "t", ACL: acl, XAttrs: []catar.XAttr{{Name: "user.a"}}, ProjID: 1, FCaps: []byte{1}, Flags: feature.Append},
			catar.Entry{Mode: link | 0o777, Target: "t"}},

		{"ns", feature.NanoTime, catar.Entry{Mode: dir | 0o777, MTime: 1234567890123456789}, catar.Entry{Mode: dir | 0o777, MTime: 1234567890123456789}},
		{"us", feature.MicroTime, catar.Entry{Mode: dir | 0o777, MTime: 1234567890123456789}, catar.Entry{Mode: dir | 0o777, MTime: 1234567890123456000}},
		{"s", feature.SecTime, catar.Entry{Mode: dir | 0o777, MTime: 1234567890123456789}, catar.Entry{Mode: dir | 0o777, MTime: 1234567890000000000}},
		{"2s", feature.TwoSecTime, catar.Entry{Mode: dir | 0o777, MTime: 1234567891123456789}, catar.Entry{Mode: dir | 0o777, MTime: 1234567890000000000}},
		{"no time", 0, catar.Entry{Mode: dir | 0o777, MTime: 1}, catar.Entry{Mode: dir | 0o777}},
		// The step does not divide 2^64, in whose complement the time is.
		{"before 1970", feature.SecTime, catar.Entry{Mode: dir | 0o777, MTime: -1500000000}, catar.Entry{Mode: dir | 0o777, MTime: -1709551616}},

		{"names and numbers", feature.UID32 | feature.UserNames,
			catar.Entry{Mode: dir | 0o777, UID: 1, GID: 0, User: "daemon", Group: "root"},
			catar.Entry{Mode: dir | 0o777, UID: 1, GID: 0, User: "daemon"}},
		{"numbers", feature.UID32, catar.Entry{Mode: dir | 0o777, UID: 1, User: "daemon"}, catar.Entry{Mode: dir | 0o777, UID: 1}},
		{"names", feature.UserNames,
			catar.Entry{Mode: dir | 0o777, UID: 1, GID: 12345, User: "daemon"}, catar.Entry{Mode: dir | 0o777, User: "daemon", Group: "12345"}},
		{"a name that is no name", feature.UID32 | feature.UserNames,
			catar.Entry{Mode: dir | 0o777, UID: 1, User: "first.last", GID: 2, Group: "2fast"}, catar.Entry{Mode: dir | 0o777, UID: 1, GID: 2}},
		{"the same without numbers", feature.UserNames,
			catar.Entry{Mode: dir | 0o777, UID: 1, User: "first.last", GID: 2, Group: "2fast"}, catar.Entry{Mode: dir | 0o777, User: "1", Group: "2"}},
		{"another name of 0", feature.UID32 | feature.UserNames,
			catar.Entry{Mode: dir | 0o777, User: "toor"}, catar.Entry{Mode: dir | 0o777, User: "toor"}},

		{"attributes", feature.XAttrs,
			catar.Entry{Mode: dir | 0o777, XAttrs: []catar.XAttr{{Name: "security.x"}, {Name: "trusted.t"}, {Name: "user"}, {Name: "user."}, {Name: "user.a"}}},
			catar.Entry{Mode: dir | 0o777, XAttrs: []catar.XAttr{{Name: "trusted.t"}, {Name: "user.a"}}}},
		{"no attributes", 0, catar.Entry{Mode: dir | 0o777, XAttrs: []catar.XAttr{{Name: "user.a"}}}, catar.Entry{Mode: dir | 0o777}},

		{"flags", feature.Append | feature.Hidden,
			catar.Entry{Mode: file | 0o666, Flags: feature.Append | feature.Hidden | feature.Sync | feature.UID32},
			catar.Entry{Mode: file | 0o666, Flags: feature.Append | feature.Hidden}},
		{"subvolume", feature.Subvolume, catar.Entry{Mode: dir | 0o777, Flags: feature.Subvolume | feature.SubvolumeRO}, catar.Entry{Mode: dir | 0o777, Flags: feature.Subvolume}},
		{"subvolume of a file", feature.Subvolume, catar.Entry{Mode: file | 0o666, Flags: feature.Subvolume}, catar.Entry{Mode: file | 0o666}},
		{"the rest", feature.SELinux | feature.FCaps | feature.QuotaProjID,
			catar.Entry{Mode: file | 0o666, SELinux: "l", FCaps: []byte{1}, ProjID: 1, Major: 1, Target: "t", Size: 5},
			catar.Entry{Mode: file | 0o666, SELinux: "l", FCaps: []byte{1}, ProjID: 1, Size: 5}},
		{"the rest, left out", 0, catar.Entry{Mode: file | 0o666, SELinux: "l", FCaps: []byte{1}, ProjID: 1}, catar.Entry{Mode: file | 0o666}},
		{"the rest, of a directory", feature.Flags(feature.All).Normal(),
			catar.Entry{Mode: dir | 0o777, SELinux: "l", FCaps: []byte{1}, ProjID: 1, Size: 4096}, catar.Entry{Mode: dir | 0o777, SELinux: "l", ProjID: 1}},

		{"acl", feature.ACL | feature.UID32 | feature.UserNames, catar.Entry{Mode: dir | 0o750, ACL: acl}, catar.Entry{Mode: dir | 0o750, ACL: &catar.ACL{
			Masked: true, GroupObj: 4,
			Users: []catar.ACLEntry{{ID: 0, Perm: 1}, {ID: 5, Perm: 2}, {ID: 9, Perm: 4, Name: "games"}},
			Default: &catar.DefaultACL{Masked: true,
				Groups: []catar.ACLEntry{{ID: 0, Perm: 1}, {ID: 5, Perm: 2}, {ID: 9, Perm: 4, Name: "games"}}}}}},
		{"acl by names", feature.ACL | feature.UserNames, catar.Entry{Mode: file | 0o750, ACL: acl}, catar.Entry{Mode: file | 0o750, ACL: &catar.ACL{
			Masked: true, GroupObj: 4, Users: []catar.ACLEntry{{Perm: 1}, {Perm: 2, Name: "5"}, {Perm: 4, Name: "games"}}}}},
		{"acl by numbers", feature.ACL | feature.UID16, catar.Entry{Mode: file | 0o750, ACL: acl}, catar.Entry{Mode: file | 0o750, ACL: &catar.ACL{
			Masked: true, GroupObj: 4, Users: []catar.ACLEntry{{ID: 0, Perm: 1}, {ID: 5, Perm: 2}, {ID: 9, Perm: 4}}}}},
		{"acl that says nothing", feature.ACL, catar.Entry{Mode: file | 0o750, ACL: &catar.ACL{GroupObj: 5, Default: &catar.DefaultACL{}}}, catar.Entry{Mode: file | 0o750}},
		{"no acl", feature.Permissions, catar.Entry{Mode: dir | 0o750, ACL: acl}, catar.Entry{Mode: dir | 0o750}},
	}
	for _, tt := range tests {
		got := tt.from
		for _, when := range []string{"", " a second time"} {
			if got.Reduce(tt.flags); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%s%s: got %+v\nwant %+v", tt.name, when, got, tt.want)
			}
		}
	}
}
