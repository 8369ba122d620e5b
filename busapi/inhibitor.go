package busapi

import (
	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

func encodeInhibitor(i status.Inhibitor) Dict {
	d := Dict{
		"id":   dbus.MakeVariant(i.ID),
		"mode": textVariant(i.Mode),
		"who":  textVariant(i.Who),
		"why":  textVariant(i.Why),
		"how":  textVariant(i.How),
		"uid":  dbus.MakeVariant(i.UID),
	}
	putTime(d, "since", i.Since)
	return d
}

func decodeInhibitor(d Dict) (status.Inhibitor, error) {
	r := &reader{dict: d}
	i := status.Inhibitor{
		ID:    get[uint32](r, "id"),
		Mode:  word[policy.Mode](r, "mode"),
		Who:   get[string](r, "who"),
		Why:   get[string](r, "why"),
		How:   word[status.How](r, "how"),
		UID:   get[uint32](r, "uid"),
		Since: moment(r, "since"),
	}
	return i, r.finish("an inhibitor")
}
