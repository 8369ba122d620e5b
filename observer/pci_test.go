package observer_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

func TestPCIAddressesAreToldFromWhatIsNearlyOne(t *testing.T) {
	for text, ok := range map[string]bool{
		"0000:01:00.0": true, "abcd:ef:1f.7": true, "10000:01:00.0": true, "00000000:01:00.7": true,
		"": false, "000:01:00.0": false, "000000000:01:00.0": false, "0000:1:00.0": false, "0000:01:00.": false,
		"0000:01:00.8": false, "0000:01:00.00": false, "0000:01:00:0": false, "0000-01-00.0": false,
		"0000:01:0g.0": false, "ABCD:01:00.0": false, " 0000:01:00.0": false, "0000:01:00.0\n": false,
		"0000:01:00.0/x": false, "x\n0000:01:00.0": false,
	} {
		require.Equal(t, ok, observer.IsPCI(text), "%q", text)
	}
}
