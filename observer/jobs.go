package observer

// Jobs are the processes that match a job pattern of the policy.
type Jobs struct {
	// Complete: all processes were judged. Otherwise Reason explains why not.
	Complete bool   `json:"told"`
	Reason   string `json:"reason,omitempty"`
	List     []Job  `json:"list"`
	// Truncated counts the jobs for which the list has no room.
	Truncated int `json:"more,omitempty"`
	// Unread are the processes whose command line could not be read, one for each user
	// slice or unit. MoreUnread counts those for which the list has no room.
	Unread     []Unseen `json:"unread,omitempty"`
	MoreUnread int      `json:"more_unread,omitempty"`
}

// Job is one of them. A process chooses its own command line, so a user can hide a job, but only
// their own.
type Job struct {
	Process
	// Pattern is the pattern of the policy that matched. The command line is left out,
	// since it may contain a password.
	Pattern string `json:"pattern,omitempty"`
	// Remote: the pattern counts in remote sessions only.
	Remote bool `json:"remote,omitempty"`
}

// Directory is a directory that the daemon or a mode needs.
type Directory struct {
	Path string `json:"path"`
	// Fault is what is wrong with the directory, Reason why that is unknown.
	Fault  string `json:"fault,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Free is the free space in bytes.
	Free Measure `json:"free"`
}
