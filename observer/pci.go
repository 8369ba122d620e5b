package observer

import "regexp"

var pciFunction = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// IsPCI reports whether text is the address of a PCI function, domain:bus:device.function. It
// permits the domains of more than four digits that the kernel assigns to virtual buses, which
// policy.IsPCI does not.
func IsPCI(text string) bool { return pciFunction.MatchString(text) }
