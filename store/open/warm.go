package open

import "strings"

// Warm begins to connect to a store that will be read from soon, where it takes many round
// trips until one can be asked, and does not wait. Options must have a Shared, which keeps
// the connection for Store. What goes wrong is for Store, or its reader, to say.
func Warm(location string, opt Options) {
	first, _, _ := strings.Cut(location, "|")
	k, opt, err := kindOf(first, opt)
	if err != nil || k.chunks == nil {
		return
	}
	if s, err := k.chunks(first, opt); err == nil {
		if w, ok := s.(interface{ Warm() }); ok {
			w.Warm()
		}
	}
}
