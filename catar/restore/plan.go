package restore

import "caravel/catar"

// A Planned node is what Plan has to know of a node: its path from the target, "" for that
// itself, and the type, mode, owners, time, size, target and device of its entry.
type Planned struct {
	Path  string
	Entry catar.Entry
}

// An Action is what a restore would do.
type Action string

// The actions.
const (
	Create  Action = "create"
	Replace Action = "replace" // or, of a directory, change its metadata
	Keep    Action = "keep"
	Remove  Action = "remove"
	Extra   Action = "extra" // the target has it and the archive not, and what is to become of it was not said
)
