package policy

// Audit is the section [audit]: the size of the history. events.jsonl and its older
// files take at most (keep + 1) times max_mib.
type Audit struct {
	// MaxMiB is the size at which events.jsonl is rotated.
	MaxMiB int `toml:"max_mib"`
	// Keep is how many rotated files are kept.
	Keep int `toml:"keep"`
}

func (p Policy) auditFaults(check checker) {
	check(p.Audit.MaxMiB >= 1 && p.Audit.MaxMiB <= 1024, "audit.max_mib", "must be from 1 to 1024")
	check(p.Audit.Keep >= 1 && p.Audit.Keep <= 100, "audit.keep", "must be from 1 to 100")
}
