package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"caravel/chunker"
)

// fewSearches is after how many chunks that are not there under another key
// either nobody looks for these any more: it is a chunk that is missing then,
// here and there, and each search may cost a round trip.
const fewSearches = 4

// instead says what the store has of a chunk under another key or none, or why
// that is not known; "" if there is nothing to say. A wrong key would look like a
// store from which all is missing.
func (s *chunks) instead(ctx context.Context, id chunker.ID) string {
	key, hint := s.forms[0].Key, ""
	if key != nil && s.lister == nil {
		hint = fmt.Sprintf("chunks with another key than %v would have other names there", key)
	}
	if s.vain.Load() >= fewSearches || ctx.Err() != nil {
		return hint
	}
	var said string
	switch {
	case s.lister != nil:
		said = s.listed(ctx, id)
	case key != nil:
		said = s.probed(ctx, id)
	}
	if said == "" {
		s.vain.Add(1)
		return hint
	}
	s.vain.Store(0)
	return said
}

// listed looks through the names of the chunk's objects.
func (s *chunks) listed(ctx context.Context, id chunker.ID) string {
	key, bare := s.forms[0].Key, bareName(id)
	plain := false
	for name, err := range s.lister.List(ctx, bare) {
		if err != nil {
			return ""
		}
		switch other := keyOf(name); {
		case other == "":
			plain = true
		case key == nil:
			return "there it is encrypted, with the key " + other
		case other != key.String():
			return fmt.Sprintf("wrong key: there it is encrypted with %s, not %v", other, key)
		}
	}
	if plain && key != nil {
		return fmt.Sprintf("there it is not encrypted (wanted with %v)", key)
	}
	return ""
}

// probed asks for the chunk as it would be without encryption: a store that
// cannot list tells of no other name.
func (s *chunks) probed(ctx context.Context, id chunker.ID) string {
	for _, f := range s.forms {
		key := f.Key
		f.Key = nil
		if _, err := s.stat(ctx, f.Name(id)); err == nil {
			return fmt.Sprintf("there it is not encrypted (wanted with %v)", key)
		}
	}
	return ""
}

// keyOf is what the key is called that an object's name ends in; "" if it ends in
// none.
func keyOf(name string) string {
	ending := name[strings.LastIndexByte(name, '.')+1:]
	dash := strings.LastIndexByte(ending, '-')
	if dash < 0 {
		return ""
	}
	sum, err := hex.DecodeString(ending[dash+1:])
	if _, bad := ParseCipher(ending[:dash]); bad != nil || err != nil || len(sum) != 4 {
		return ""
	}
	return ending
}
