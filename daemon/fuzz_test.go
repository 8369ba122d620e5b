package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// kept is what the daemon finds on disk when it starts.
type kept struct{ intent, last, journal []byte }

func encoded(f *testing.F, v any) []byte {
	f.Helper()
	data, err := json.Marshal(v)
	require.NoError(f, err)
	return data
}

// FuzzStart: whatever is in the daemon's own files, it starts or says why it does not;
// and one that has started answers and carries out requests.
func FuzzStart(f *testing.F) {
	desired := status.Desired{Mode: policy.StudioLocal, Origin: status.OriginOperator, By: "uid 0 (root)"}
	bare := encoded(f, intent.Document{BootID: thisBoot, Desired: desired})
	held := encoded(f, intent.Document{BootID: thisBoot, Desired: desired, Lease: &intent.Lease{
		ID: 1, Mode: policy.StudioLocal, BackTo: policy.Desktop, Terms: status.Terms{For: time.Hour}, Reached: time.Second,
	}, Pending: &intent.Pending{ID: 2, Desired: desired}})
	last := encoded(f, status.Record{ID: 1, To: policy.StudioLocal, Result: status.Success})
	unended := encoded(f, runner.Entry{
		Format: 1, BootID: thisBoot, OriginMode: policy.Desktop,
		Record: status.Record{
			ID: 2, To: policy.Compute, Steps: []status.Step{{ID: "isolate-compute", Status: status.StepDoing}},
		},
		Steps:  []plans.Step{{ID: "isolate-compute", Kind: plans.Isolate, Unit: "compute.target", Timeout: time.Second}},
		Before: []json.RawMessage{nil},
	})
	f.Add([]byte{}, []byte{}, []byte{})
	f.Add(held, last, []byte{})
	f.Add(held, last, unended)
	f.Add(bare, last, unended)
	f.Add(bare, []byte(`{"id":18446744073709551615}`), []byte{})
	f.Add([]byte("null"), []byte("{}"), []byte(`{"format":1}`))
	f.Add([]byte("[]"), []byte(`{"id":-1}`), []byte("{"))
	f.Add([]byte(`{"boot_id":"`+thisBoot+`"}`), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, intent, last, journal []byte) {
		synctest.Test(t, func(t *testing.T) { startWith(t, kept{intent, last, journal}) })
	})
}

func startWith(t *testing.T, k kept) {
	dir := t.TempDir()
	p := testPolicy(dir)
	for path, content := range map[string][]byte{
		filepath.Join(p.Paths.Runtime, "intent.json"):          k.intent,
		filepath.Join(p.Paths.Runtime, "last-transition.json"): k.last,
		filepath.Join(p.Paths.State, "transition.json"):        k.journal,
	} {
		if len(content) == 0 {
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	r, err := tryHarness(t, newFakeHost(p), p, thisBoot)
	if err != nil {
		return
	}
	r.run()
	defer r.stop()
	r.settle()
	r.request(policy.Desktop)
}
