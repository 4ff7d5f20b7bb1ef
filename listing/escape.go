package listing

// AppendPath writes the path of an entry as one word of a line, of the root a dot.
func AppendPath(b []byte, path string) []byte {
	if path == "" {
		return append(b, '.')
	}
	return appendEscaped(b, path)
}

// appendEscaped writes a name so that it is one word of a line: blanks, control
// characters, everything beyond ASCII, \ and # become \ooo.
func appendEscaped[T string | []byte](b []byte, s T) []byte {
	plain := 0 // where the bytes begin that are still to be copied
	for i := range len(s) {
		c := s[i]
		if c > 0x20 && c < 0x7f && c != '\\' && c != '#' {
			continue
		}
		b = append(b, s[plain:i]...)
		b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		plain = i + 1
	}
	return append(b, s[plain:]...)
}
