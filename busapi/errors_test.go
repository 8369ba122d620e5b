package busapi

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
)

func TestEverySentinelTravelsInBothDirections(t *testing.T) {
	for _, entry := range errorTable {
		t.Run(entry.name, func(t *testing.T) {
			sent := ToDBus(fmt.Errorf("cannot do it: %w", entry.sentinel))
			require.Equal(t, entry.name, sent.Name)
			require.Equal(t, "cannot do it: "+entry.sentinel.Error()+"; "+entry.next, sent.Error())

			got := FromDBus(fmt.Errorf("cannot call: %w", *sent))
			require.ErrorIs(t, got, entry.sentinel)
			require.Equal(t, sent.Error(), got.Error())
		})
	}
}

func TestErrorNamesAndSentinelsAreUnique(t *testing.T) {
	names, sentinels := map[string]bool{}, map[error]bool{}
	for _, entry := range errorTable {
		require.False(t, names[entry.name], entry.name)
		require.False(t, sentinels[entry.sentinel], entry.name)
		require.NotEmpty(t, entry.next, "%s does not say what to do next", entry.name)
		names[entry.name], sentinels[entry.sentinel] = true, true
	}
}

// The names are the contract's; a typo in the table would be a break.
func TestErrorNamesAreTheContracts(t *testing.T) {
	want := map[error]string{
		ErrUnknownMode:             "org.dubnium.Mode1.Error.UnknownMode",
		ErrUnknownGuard:            "org.dubnium.Mode1.Error.UnknownGuard",
		ErrHardGuard:               "org.dubnium.Mode1.Error.HardGuard",
		ErrBadOption:               "org.dubnium.Mode1.Error.BadOption",
		ErrRateLimited:             "org.dubnium.Mode1.Error.RateLimited",
		status.ErrTooMany:          "org.dubnium.Mode1.Error.LimitExceeded",
		status.ErrBusy:             "org.dubnium.Mode1.Error.Busy",
		status.ErrStalePlan:        "org.dubnium.Mode1.Error.StalePlan",
		status.ErrNotCancellable:   "org.dubnium.Mode1.Error.NotCancellable",
		status.ErrNoSuchInhibitor:  "org.dubnium.Mode1.Error.NoSuchInhibitor",
		status.ErrNoSuchTransition: "org.dubnium.Mode1.Error.NoSuchTransition",
		status.ErrShuttingDown:     "org.dubnium.Mode1.Error.ShuttingDown",
		ErrAccessDenied:            "org.freedesktop.DBus.Error.AccessDenied",
		ErrInteractionRequired:     "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
		ErrInvalidArgs:             "org.freedesktop.DBus.Error.InvalidArgs",
		status.ErrNotPostponable:   "org.dubnium.Mode1.Error.NotPostponable",
		ErrUnknownObject:           "org.freedesktop.DBus.Error.UnknownObject",
		ErrUnknownMethod:           "org.freedesktop.DBus.Error.UnknownMethod",
		ErrUnknownInterface:        "org.freedesktop.DBus.Error.UnknownInterface",
		ErrUnknownProperty:         "org.freedesktop.DBus.Error.UnknownProperty",
		ErrPropertyReadOnly:        "org.freedesktop.DBus.Error.PropertyReadOnly",
		ErrInternal:                "org.freedesktop.DBus.Error.Failed",
	}
	require.Len(t, errorTable, len(want))
	for _, entry := range errorTable {
		require.Equal(t, want[entry.sentinel], entry.name)
	}
}

func TestAnyOtherErrorIsFailedAndStaysWhatItIs(t *testing.T) {
	require.Equal(t, "org.freedesktop.DBus.Error.Failed", ToDBus(errors.New("disk \xff full")).Name)
	require.Equal(t, "disk \uFFFD full", ToDBus(errors.New("disk \xff full")).Error())

	local := errors.New("not a reply")
	require.Same(t, local, FromDBus(local))
	require.NoError(t, FromDBus(nil))
	foreign := dbus.Error{Name: "com.example.Error.Odd", Body: []any{"odd"}}
	require.Equal(t, error(foreign), FromDBus(foreign))
}

func TestARefusalReadsAsItsOwnText(t *testing.T) {
	err := Refuse(ErrUnknownMode, "unknown mode %q", "sauna")
	require.ErrorIs(t, err, ErrUnknownMode)
	require.Equal(t, `unknown mode "sauna"`, err.Error())
	require.True(t, strings.HasPrefix(ToDBus(err).Error(), `unknown mode "sauna"; `))
}

func TestTheTextOfAnErrorIsBounded(t *testing.T) {
	for _, long := range []string{
		strings.Repeat("x", 1<<20), strings.Repeat("ü", 1<<20), "a" + strings.Repeat("\u20ac", 1<<20),
		strings.Repeat("\xff", 1<<20),
	} {
		for _, err := range []error{Refuse(ErrUnknownMode, "unknown mode %q", long), errors.New(long)} {
			reply := ToDBus(err)
			require.LessOrEqual(t, len(reply.Error()), MaxErrorText)
			require.True(t, utf8.ValidString(reply.Error()))
		}
	}
	require.Contains(t, ToDBus(Refuse(ErrUnknownMode, "unknown mode %q", strings.Repeat("x", 5000))).Error(),
		"...; the property Modes lists", "what to do next stays")
	require.Equal(t, "short", Short("short", 5))
	require.Equal(t, "lo...", Short("longer", 5))
	require.Equal(t, "\u20ac...", Short("\u20ac\u20ac\u20ac", 7))
}
