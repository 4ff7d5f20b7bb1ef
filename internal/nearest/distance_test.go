package nearest

import "testing"

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"make", "make", 0}, {"mkae", "make", 1}, {"mak", "make", 1},
		{"makee", "make", 1}, {"moke", "make", 1}, {"extract", "digest", 6}, {"ab", "ba", 1},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%s, %s: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance(tt.b, tt.a); got != tt.want {
			t.Errorf("%s, %s: got %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}
