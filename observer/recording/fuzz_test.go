package recording

import (
	"bytes"
	"testing"

	"github.com/dubnium/dubnium/policy"
)

// FuzzRead: a recording comes from another host, and may be anybody's work. It is
// refused, or every moment of it can be judged.
func FuzzRead(f *testing.F) {
	header := `{"format":"dubnium-recording","version":1,"policy":""}` + "\n"
	f.Add([]byte(header))
	f.Add([]byte(header + `{"at":"2026-01-02T03:04:05Z","state":"desktop",` +
		`"snapshot":{"systemd":{"units":{"vllm.service":{"active_state":"active"}}}}}` + "\n"))
	f.Add([]byte(header + `{"snapshot":{"logind":{"sessions":[{"id":"1"}]},` +
		`"holders":{"holders":[{"pid":-1}],"gpus":null}}}` + "\n" + `{"torn`))
	f.Add([]byte(`{"format":"dubnium-recording","version":2}`))
	f.Add([]byte("\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, entries, _, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		p, err := policy.Parse("recorded", []byte(h.Policy))
		if err != nil {
			p = policy.Default()
		}
		for _, d := range Replay(p, entries) {
			if d.Replayed.State == "" || d.Replayed.Confidence == "" {
				t.Errorf("a moment is called nothing: %+v", d)
			}
		}
	})
}
