package observer

import "regexp"

var pciFunction = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// IsPCI reports whether text is the address of a PCI function, domain:bus:device.function.
// The kernel gives virtual domains more than four digits. (Policies name no GPU in
// one: policy.IsPCI.)
func IsPCI(text string) bool { return pciFunction.MatchString(text) }
