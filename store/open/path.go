package open

// Path is the path of a location that is on this machine; "" for one behind a network,
// and for a group of stores.
func Path(location string) string {
	s, err := schemeOf(location)
	if err != nil || s.path == nil {
		return ""
	}
	path, err := s.path(location)
	if err != nil {
		return ""
	}
	return path
}
