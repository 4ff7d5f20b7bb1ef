package chunker

import (
	"math"
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want int64
	}{
		{"0", 0},
		{"1", 1},
		{"65536B", 65536},
		{"64K", 64 << 10},
		{"00064K", 64 << 10},
		{"3M", 3 << 20},
		{"2G", 2 << 30},
		{"5T", 5 << 40},
		{"6P", 6 << 50},
		{"7E", 7 << 60},
		{"1M512K", 1536 << 10},
		{"1E1P1T1G1M1K1B1", 1<<60 + 1<<50 + 1<<40 + 1<<30 + 1<<20 + 1<<10 + 2},
		{"1K512", 1536},
		{"1.5K512B", 2048},
		{" 64K", 64 << 10},
		{"\t64K", 64 << 10},
		{"1 K", 1 << 10},
		{"1K 512B", 1536},
		{"1.5K", 1536},
		{"5.K", 5 << 10},
		{"1.15K", 1177},
		{"1.0000001K", 1024},
		{"1.9", 1},
		{"0.0009765625K", 1},
		{"1.5E", 3 << 59},
		{"9223372036854775807", math.MaxInt64},
		{"7E1023P1023T1023G1023M1023K1023", math.MaxInt64},
	} {
		if got, err := ParseSize(tt.s); err != nil || got != tt.want {
			t.Errorf("%q: got %d, %v; want %d", tt.s, got, err, tt.want)
		}
	}
}

func TestParseSizeRefuses(t *testing.T) {
	const noNumber, order, tooBig = "is no number", "not smaller than", "above 2^63-1"
	for _, tt := range []struct{ s, want string }{
		{"", noNumber}, {" ", noNumber}, {"K", noNumber}, {".5K", noNumber}, {"-1", noNumber}, {"+1", noNumber},
		{"64k", noNumber}, {"64KB5", noNumber}, {"64KiB", noNumber}, {"64K ", noNumber}, {"0x10", noNumber},
		{"1e3", noNumber}, {"1..5K", noNumber}, {"1,5K", noNumber}, {"64\x00", noNumber}, {"٣", noNumber},
		{"1K1K", order}, {"512B1K", order}, {"1K1M", order}, {"5 5", order},
		{"8E", tooBig}, {"16E", tooBig}, {"9223372036854775808", tooBig}, {"18446744073709551616", tooBig},
		{"99999999999999999999999K", tooBig}, {"7E1024P", tooBig}, {"7.99999999999999999999E", tooBig},
		{"9007199254740992K", tooBig},
	} {
		got, err := ParseSize(tt.s)
		if err == nil || !strings.HasPrefix(err.Error(), "chunker: size ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %d, %v; want %q in it", tt.s, got, err, tt.want)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1M512K", " 1.5K", "7.99999999999999999999E", "64K:", "1K\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		size, err := ParseSize(s)
		if err == nil && size < 0 {
			t.Errorf("%q: got %d", s, size)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error of several lines: %v", s, err)
		}
		if p, err := ParseParams(s); err == nil && p.Cuttable() != nil {
			t.Errorf("%q: got %v: %v", s, p, p.Cuttable())
		}
	})
}

func TestParseParams(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want Params
	}{
		{"auto", Params{16384, 65536, 262144}},
		{"64K", Params{16384, 65536, 262144}},
		{"16385", Params{4096, 16385, 65540}},
		{"128M", Params{33554432, 134217728, 134217728}},
		{"12", Params{3, 12, 48}},
		{"16K:64K:256K", Params{16384, 65536, 262144}},
		{"1M512K:2M:4M", Params{1572864, 2097152, 4194304}},
		{"1K:4K: 16K", Params{1024, 4096, 16384}},
		{"11:47:188", Params{11, 47, 188}},
		{"4096:4096:4096", Params{4096, 4096, 4096}},
		{"1:1:1", Params{1, 1, 1}},
		{"1:128M:128M", Params{1, 134217728, 134217728}},
	} {
		if got, err := ParseParams(tt.s); err != nil || got != tt.want {
			t.Errorf("%q: got %v, %v; want %v", tt.s, got, err, tt.want)
		}
	}
	for s, want := range map[string]string{
		"":                  "chunker: size \"\": \"\" is no number and none of the suffixes E P T G M K B",
		"Auto":              "chunker: size \"Auto\": \"Auto\" is no number and none of the suffixes E P T G M K B",
		"0":                 "chunker: size \"0\": not within 1 and 134217728 bytes",
		"129M":              "chunker: size \"129M\": not within 1 and 134217728 bytes",
		"7E":                "chunker: size \"7E\": not within 1 and 134217728 bytes",
		"16K:64K":           "chunker: sizes \"16K:64K\": want auto, one average or min:avg:max",
		"1:2:3:4":           "chunker: sizes \"1:2:3:4\": want auto, one average or min:avg:max",
		"64K:":              "chunker: sizes \"64K:\": want auto, one average or min:avg:max",
		"16K::256K":         "chunker: size \"\": \"\" is no number and none of the suffixes E P T G M K B",
		"0:64K:256K":        "chunker: size \"0\": not within 1 and 134217728 bytes",
		"65K:64K:256K":      "chunker: sizes 66560:65536:262144: the minimum is above the average",
		"16K:512K:256K":     "chunker: sizes 16384:524288:262144: the average is above the maximum",
		"16K:64K:134217729": "chunker: size \"134217729\": not within 1 and 134217728 bytes",
		"11":                "chunker: sizes 2:11:44: a maximum below 48 bytes works only for chunks of a fixed size",
		"10:20:40":          "chunker: sizes 10:20:40: a maximum below 48 bytes works only for chunks of a fixed size",
	} {
		if got, err := ParseParams(s); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, %v; want %s", s, got, err, want)
		}
	}
}

func TestAround(t *testing.T) {
	for avg, want := range map[int]Params{
		1:             {1, 1, 4},
		65536:         {16384, 65536, 262144},
		MaxSize / 4:   {MaxSize / 16, MaxSize / 4, MaxSize},
		MaxSize/4 + 1: {MaxSize / 16, MaxSize/4 + 1, MaxSize},
		MaxSize:       {MaxSize / 4, MaxSize, MaxSize},
	} {
		got := Around(avg)
		if got != want || got.Valid() != nil {
			t.Errorf("%d: got %v, want %v", avg, got, want)
		}
	}
	if err := Around(math.MaxInt).Valid(); err == nil {
		t.Error("an average above the limit is valid")
	}
}
