package server

import (
	"slices"
	"time"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// filterOptions are the keys of a filter. Unknown ones are refused: a caller that
// filters by user must not receive the transitions of all users.
var filterOptions = busapi.FilterKeys()

// parseFilter parses the filter of History.
func parseFilter(filter busapi.Dict) (status.Filter, error) {
	f, err := busapi.DecodeFilter(filter)
	if err != nil {
		return f, busapi.Refuse(busapi.ErrBadOption, "%v", err)
	}
	given := func(key string) bool { _, ok := filter[key]; return ok }
	if given("until") && f.Until.IsZero() { // 0: nothing ended before 1970
		f.Until = time.UnixMicro(0)
	}
	if given("result") && !slices.Contains(status.Results(), f.Result) {
		return f, busapi.Refuse(busapi.ErrBadOption, "the filter key result is %q, which is not a result", f.Result)
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
