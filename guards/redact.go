package guards

import (
	"slices"

	"github.com/dubnium/dubnium/observer"
)

// Redacted returns the verdicts with what is other people's taken out of the words.
// The verdicts stay: they were made from all that was seen.
func Redacted(verdicts []Verdict, r observer.Redaction) []Verdict {
	verdicts = slices.Clone(verdicts)
	for i := range verdicts {
		v := &verdicts[i]
		v.Reason, v.Remedy = r.Text(v.Reason), r.Text(v.Remedy)
		v.Evidence = slices.Clone(v.Evidence)
		for j := range v.Evidence {
			v.Evidence[j] = r.Text(v.Evidence[j])
		}
	}
	return verdicts
}
