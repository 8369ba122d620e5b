package server

import (
	"math"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// filterKeys says how each key of a filter is read; the word is its type, for a
// value that is of another.
var filterKeys = map[string]struct {
	signature string
	read      func(f *status.Filter, v dbus.Variant) (ok bool, err error)
}{
	busapi.FilterSince: {"t", func(f *status.Filter, v dbus.Variant) (bool, error) { return readTime(&f.Since, v) }},
	busapi.FilterUntil: {"t", func(f *status.Filter, v dbus.Variant) (bool, error) { return readTime(&f.Until, v) }},
	busapi.FilterResult: {"s", func(f *status.Filter, v dbus.Variant) (bool, error) {
		word, ok := v.Value().(string)
		f.Result = status.Result(word)
		if ok && !slices.Contains(status.Results(), f.Result) {
			return true, busapi.Refuse(busapi.ErrBadOption, "the filter key result is %q, which is no result", word)
		}
		return ok, nil
	}},
	busapi.FilterMode: {"s", func(f *status.Filter, v dbus.Variant) (bool, error) {
		word, ok := v.Value().(string)
		mode, err := policy.ParseMode(word)
		if ok && err != nil {
			return true, busapi.Refuse(busapi.ErrUnknownMode, "the filter key mode: %v", err)
		}
		f.Mode = mode
		return ok, nil
	}},
	busapi.FilterBy: {"s", func(f *status.Filter, v dbus.Variant) (ok bool, _ error) {
		f.By, ok = v.Value().(string)
		return ok, nil
	}},
	busapi.FilterUID: {"u", func(f *status.Filter, v dbus.Variant) (bool, error) {
		uid, ok := v.Value().(uint32)
		f.UID = &uid
		return ok, nil
	}},
	busapi.FilterID: {"t", func(f *status.Filter, v dbus.Variant) (ok bool, _ error) {
		f.ID, ok = v.Value().(uint64)
		return ok, nil
	}},
	busapi.FilterLimit: {"u", func(f *status.Filter, v dbus.Variant) (bool, error) {
		n, ok := v.Value().(uint32)
		if ok && (n < 1 || n > busapi.MaxHistory) {
			return true, busapi.Refuse(busapi.ErrBadOption, "the filter key limit is %d, not 1 to %d", n, busapi.MaxHistory)
		}
		f.Limit = int(n)
		return ok, nil
	}},
}

func readTime(t *time.Time, v dbus.Variant) (bool, error) {
	us, ok := v.Value().(uint64)
	if us > math.MaxInt64 {
		return true, busapi.Refuse(busapi.ErrBadOption, "%d microseconds since the epoch are no time", us)
	}
	*t = time.UnixMicro(int64(us))
	return ok, nil
}

// filterOptions are the keys of a filter, in the order in which they are read. One that
// is not known is refused: who asks for one user's transitions must not believe that
// these are.
var filterOptions = []string{
	busapi.FilterSince, busapi.FilterUntil, busapi.FilterResult, busapi.FilterMode,
	busapi.FilterBy, busapi.FilterUID, busapi.FilterID, busapi.FilterLimit,
}

// parseFilter reads what is asked of the history.
func parseFilter(filter busapi.Dict) (status.Filter, error) {
	f := status.Filter{Limit: busapi.DefaultHistory}
	for _, name := range filterOptions {
		value, given := filter[name]
		if !given {
			continue
		}
		key := filterKeys[name]
		switch ok, err := key.read(&f, value); {
		case err != nil:
			return f, err
		case !ok:
			return f, wrongType("filter key", name, key.signature, value.Signature().String())
		}
	}
	return f, nil
}
