package daemon

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// onGivingDesktop is a desktop whose policy gives desktops something, before
// anybody has requested it.
func onGivingDesktop(t *testing.T, f func(t *testing.T, r *harness)) {
	t.Helper()
	onDesktop(t, func(t *testing.T, r *harness) {
		p := testPolicy(r.dir)
		p.Slices.Desktop = map[string]policy.Slice{"user.slice": {CPUWeight: 200}}
		_, err := r.Reload(t.Context(), policy.Document{Policy: p})
		require.NoError(t, err)
		f(t, r)
	})
}

func TestSlicesMissing(t *testing.T) {
	onGivingDesktop(t, func(t *testing.T, r *harness) {
		assert.Equal(t, status.Success, r.request(policy.Desktop).Result)
		assert.Equal(t, []string{"apply set-slices-desktop"}, r.applied())
		assert.Equal(t, "200", r.host.clone().now.Systemd.Units["user.slice"].Properties[policy.CPUWeight])
		assert.Equal(t, status.Noop, r.request(policy.Desktop).Result)
	})
}

// The mode is observed all the while; that does not make the failure a success.
func TestSlicesUndone(t *testing.T) {
	onGivingDesktop(t, func(t *testing.T, r *harness) {
		before := r.host.clone()
		r.host.fault = func(_ context.Context, when, what string) error {
			if what == "verify set-slices-desktop" {
				return errBroken
			}
			return nil
		}
		record := r.request(policy.Desktop)
		assert.Equal(t, status.RolledBack, record.Result, record.Cause)
		assert.Equal(t, before.now.Systemd.Units["user.slice"], r.host.clone().now.Systemd.Units["user.slice"])
		assert.Empty(t, r.host.clone().now.Saved.Slices["user.slice"])
	})
}
