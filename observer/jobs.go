package observer

// Jobs are the processes that policy calls somebody's work.
type Jobs struct {
	// Complete: the list is what there is. Where it is not, Reason says why.
	Complete bool   `json:"told"`
	Reason   string `json:"reason,omitempty"`
	List     []Job  `json:"list"`
	// Truncated counts those for which the list has no room.
	Truncated int `json:"more,omitempty"`
	// Unread are the processes of which it could not be told, one for each user slice or
	// unit. MoreUnread counts those of further ones.
	Unread     []Unseen `json:"unread,omitempty"`
	MoreUnread int      `json:"more_unread,omitempty"`
}

// Job is one of them. How a process calls itself is its own word: who hides that
// way hides nobody's work but their own.
type Job struct {
	Process
	// Pattern is policy's for it. The command line that it matched is not told: it
	// may hold a password.
	Pattern string `json:"pattern,omitempty"`
	// Remote: it counts in a remote session only.
	Remote bool `json:"remote,omitempty"`
}

// Store is a directory that the daemon or a mode keeps something in.
type Store struct {
	Path string `json:"path"`
	// Fault says what is wrong with it, Reason why that is not known.
	Fault  string `json:"fault,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Free is how much room there is, in bytes.
	Free Measure `json:"free"`
}
