package probe

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesAreToldFromWhatIsNearlyOne(t *testing.T) {
	for name, c := range map[string]struct {
		pattern *regexp.Regexp
		are     []string
		arenot  []string
	}{
		"slice of a user": {
			userSlice,
			[]string{"user-0.slice", "user-4294967295.slice"},
			[]string{
				"user-.slice", "user-1000-a.slice", "user-1000.slice\n", "a-user-1000.slice", "user-1000xslice", "user.slice",
			},
		},
		"DRM node": {
			drmNode,
			[]string{"card0", "card12", "renderD128", "controlD64"},
			[]string{"card", "card0-DP-1", "renderD", "render128", "0", "xcard0", "version"},
		},
		"PCM node": {
			pcmNode,
			[]string{"pcmC0D0p", "pcmC12D31c"},
			[]string{"controlC0", "hwC0D0", "pcmC0D0", "pcmCD0p", "pcmC0Dp", "pcmC0D0pp", "pcmC0D0cp", "pcmCcD0p", "pcmC0D0p\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range c.are {
				require.True(t, c.pattern.MatchString(text), "%q", text)
			}
			for _, text := range c.arenot {
				require.False(t, c.pattern.MatchString(text), "%q", text)
			}
		})
	}
}
