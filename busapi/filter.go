package busapi

import (
	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
)

// The keys of History's filter.
const (
	FilterSince  = "since"
	FilterUntil  = "until"
	FilterResult = "result"
	FilterMode   = "mode"
	FilterBy     = "by"
	FilterUID    = "uid"
	FilterID     = "id"
	FilterLimit  = "limit"
)

// EncodeFilter is the argument of History. What the filter does not ask for is left
// out.
func EncodeFilter(f status.Filter) Dict {
	d := Dict{}
	putTime(d, FilterSince, f.Since)
	putTime(d, FilterUntil, f.Until)
	for key, word := range map[string]string{FilterResult: string(f.Result), FilterMode: string(f.Mode), FilterBy: f.By} {
		if word != "" {
			d[key] = textVariant(word)
		}
	}
	if f.UID != nil {
		d[FilterUID] = dbus.MakeVariant(*f.UID)
	}
	if f.ID != 0 {
		d[FilterID] = dbus.MakeVariant(f.ID)
	}
	if f.Limit > 0 {
		d[FilterLimit] = dbus.MakeVariant(uint32(f.Limit))
	}
	return d
}
