package server

import (
	"slices"
	"time"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// filterOptions are the keys of a filter. One that is not known is refused: who asks for
// one user's transitions must not believe that these are.
var filterOptions = busapi.FilterKeys()

// parseFilter reads what is asked of the history.
func parseFilter(filter busapi.Dict) (status.Filter, error) {
	f, err := busapi.DecodeFilter(filter)
	if err != nil {
		return f, busapi.Refuse(busapi.ErrBadOption, "%v", err)
	}
	given := func(key string) bool { _, there := filter[key]; return there }
	if given("until") && f.Until.IsZero() { // 0: nothing ended before 1970
		f.Until = time.UnixMicro(0)
	}
	if given("result") && !slices.Contains(status.Results(), f.Result) {
		return f, busapi.Refuse(busapi.ErrBadOption, "the filter key result is %q, which is no result", f.Result)
	}
	if given("mode") {
		if _, err := policy.ParseMode(string(f.Mode)); err != nil {
			return f, busapi.Refuse(busapi.ErrUnknownMode, "the filter key mode: %v", err)
		}
	}
	switch {
	case !given("limit"):
		f.Limit = busapi.DefaultHistory
	case f.Limit < 1 || f.Limit > busapi.MaxHistory:
		return f, busapi.Refuse(busapi.ErrBadOption, "the filter key limit is %d, not 1 to %d", f.Limit, busapi.MaxHistory)
	}
	return f, nil
}
