// Package message has the ids of log lines that programs may search for. The id of a kind
// never changes (MESSAGE_ID in the systemd journal, see systemd.journal-fields(7)).
// systemd/catalog/dubnium.catalog explains the kinds, docs/history.md lists them.
package message

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dubnium/dubnium/daemon/status"
)

// Field is the key of the id in a log line.
const Field = "message_id"

// ID is the id of a kind of log line: 128 bits in hexadecimal.
type ID string

// The kinds, besides those of Finished.
const (
	RequestAccepted ID = "64957966c49d406c8fce00cf5146e1e6"
	RequestRefused  ID = "fde6d51a03ac44769439546ed165fca7"
	StateChanged    ID = "f6115ad831794b01bdec906f41c58f45"
	StepFailed      ID = "9760e9223751403a9832efa797b58190"
	StepNoted       ID = "57a48624523c4a4b81443eeaa0c47237"
	Recovery        ID = "586baa747d3842cf928f53c7e5df5bc3"
	HistoryFault    ID = "25a11bbc95724ef99c268e387251845c"
	HistoryWell     ID = "d5ac926db74343bfaf5bff6db37ab7d9"
	HistoryCut      ID = "5e5cea28519d484ab30535be6db6477d"
)

// finished has a kind for each result of a transition.
var finished = map[status.Result]ID{
	status.Success:        "356c2dbd92a9463c9bffd86810b54bc0",
	status.Noop:           "77dbf6f04fbc42328b562588ac18d96e",
	status.Blocked:        "6f2822fa6d324d3da6ec6231c6893715",
	status.Inhibited:      "532aa26a43cd4483bccf6f5132b71d1e",
	status.Canceled:       "caf31e5bd2b841af964e75b3ae39688a",
	status.Failed:         "f051be2f8bd34a16be7265b17774d603",
	status.TimedOut:       "006480d17ba64c8e818d89b2fbfac9dc",
	status.RolledBack:     "a0425705048c4e8298346403b32fc0a6",
	status.RollbackFailed: "b79621dce893475bbcb1eee58a0f4586",
	status.Degraded:       "6e82dea3c0614d90bea62fed716ca193",
	status.Interrupted:    "25fef27e67ba45d49404c54e433775d7",
}

// Finished returns the kind of the line about the end of a transition.
func Finished(r status.Result) ID { return finished[r] }

// All lists every kind.
func All() []ID {
	all := []ID{
		RequestAccepted, RequestRefused, StateChanged, StepFailed, StepNoted, Recovery, HistoryFault, HistoryWell,
		HistoryCut,
	}
	for _, id := range finished {
		all = append(all, id)
	}
	return all
}

// WithMessageID is the field of a log line's id. Only package journald writes it; other
// cores skip it.
func WithMessageID(id ID) zap.Field {
	return zap.Field{Key: Field, Type: zapcore.SkipType, String: string(id)}
}
