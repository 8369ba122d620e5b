package zap_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/zap"
)

func TestALineHasItsLevelItsWordsAndItsFields(t *testing.T) {
	var out bytes.Buffer
	log := zap.Console(&out)
	log.Info("observed", zap.String("old", "boot"), zap.Uint64("transition", 1<<63), zap.Uint32("cookie", 1<<31), zap.Int("count", -1))
	log.Warn("refused", zap.Error(errors.New("no bus")), zap.Error(nil), zap.Any("panic", errors.New("oh")), zap.Any("word", "x"))
	log.Error("failed", zap.Any("reasons", []struct {
		Code string `json:"code"`
	}{{"a"}}), zap.ByteString("stack", []byte("main")), zap.Stringer("at", netip.IPv6Loopback()))
	log.Debug("nobody reads this")
	zap.NewNop().Error("nor this")
	require.Equal(t, `info	observed	{"old": "boot", "transition": 9223372036854775808, "cookie": 2147483648, "count": -1}
warn	refused	{"error": "no bus", "panic": "oh", "word": "x"}
error	failed	{"reasons": [{"code":"a"}], "stack": "main", "at": "::1"}
`, out.String())
}
