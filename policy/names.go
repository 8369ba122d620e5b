package policy

import "regexp"

// The names that a policy may give, as far as their characters go.
var (
	isWord = matches(`^[A-Za-z0-9_-]+$`)
	// isLine reports whether text is at most 200 bytes of printable ASCII.
	isLine   = matches(`^[ -~]{0,200}$`)
	isAmount = matches(`^([0-9]{1,7}[MGT]|infinity|)$`)

	// isUnit knows the units that modes may start or stop.
	isUnit    = matchesUnits("service|target|slice|socket|timer")
	isAnyUnit = matchesUnits("service|target|slice|socket|timer|scope|mount|automount|swap|path|device")
	isSlice   = matchesUnits("slice")
	isWorker  = matchesUnits("service|scope")
	// isQuiescible knows the units that maintenance runs as.
	isQuiescible = matchesUnits("service|timer|path|socket")
	// isTemplate knows the units that cannot run without an instance.
	isTemplate = matches(`@\.[a-z]+$`)

	isPCI = matches(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
)

func matches(pattern string) func(string) bool { return regexp.MustCompile(pattern).MatchString }

// matchesUnits matches the names of units of these types (systemd.unit(5)).
func matchesUnits(types string) func(string) bool {
	return matches(`^[A-Za-z0-9:_.\\@-]+\.(` + types + `)$`)
}

// IsPCI reports whether text is a PCI address as policies write it.
func IsPCI(text string) bool { return isPCI(text) }
