package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWhatAModeGivesIsInSystemdsWords(t *testing.T) {
	p, err := Parse("p.toml", []byte(`
[slices.desktop."work.slice"]
cpu_weight = 300
io_weight = 1
memory_high = "12G"
memory_low = "0M"
allowed_cpus = "6,0-1,2,3"
[slices.desktop."free.slice"]
memory_high = "infinity"
[slices.desktop."none.slice"]`))
	require.NoError(t, err)
	assert.Equal(t, Properties{
		CPUWeight: "300", IOWeight: "1", MemoryHigh: "12884901888", MemoryLow: "0", AllowedCPUs: "0-3,6",
	}, p.Slices.Desktop["work.slice"].Properties())
	assert.Equal(t, Properties{MemoryHigh: Infinity}, p.Slices.Desktop["free.slice"].Properties())
	assert.Empty(t, p.Slices.Desktop["none.slice"].Properties())
	assert.Equal(t, []string{
		"ai.slice", "free.slice", "interactive.slice", "none.slice", "platform.slice", "user.slice", "work.slice",
	}, p.Slices.Names(), "those of the other modes have their defaults")
}

func TestAListOfProcessorsReadsBackAsItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mask := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "mask")
		list := FormatCPUs(mask)
		again, err := ParseCPUs(list)
		require.NoError(t, err)
		require.Equal(t, list, FormatCPUs(again))
		for len(mask) > 0 && mask[len(mask)-1] == 0 {
			mask = mask[:len(mask)-1]
		}
		require.Equal(t, append([]byte{}, mask...), append([]byte{}, again...))
	})
	for _, wrong := range []string{"a", "-1", "1-", "2-1", "1,,2", " 1", "8192", "0-99999999999"} {
		_, err := ParseCPUs(wrong)
		require.Error(t, err, wrong)
	}
}

func TestATimerIsQuietWithItsService(t *testing.T) {
	s := Studio{Quiesce: []string{"backup.service", "fstrim.timer", "watch.path", "fstrim.service"}}
	assert.Equal(t, []string{"fstrim.timer", "watch.path", "backup.service", "fstrim.service"}, s.Units())
}
