package observer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// volatile are the keys of a snapshot that change from read to read on an idle host: times, and
// measures, which guards evaluate when they are needed. The transition lock is among them because
// the daemon itself holds it while a plan runs.
var volatile = map[string]bool{
	"at": true, "active_since": true, "woken_at": true, "running": true, "waiting": true, "procfs": true,
	"memory_used": true, "memory": true, "free": true, "transition_lock": true,
}

// Fingerprint identifies the state of the host in a snapshot, regardless of the times of the reads
// and the order of lists.
func (s Snapshot) Fingerprint() string {
	sum := sha256.Sum256(canonical(tree(s)))
	return hex.EncodeToString(sum[:16])
}

// tree returns v as generic JSON values. Numbers keep all their digits. It cannot fail, since a
// snapshot is plain data.
func tree(v any) any {
	data, err := json.Marshal(v)
	var t any
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		err = decoder.Decode(&t)
	}
	if err != nil {
		panic("a snapshot is not plain data: " + err.Error())
	}
	return t
}

// canonical encodes a tree without the volatile keys and with sorted lists. Of the time of a read
// it keeps whether there was one.
func canonical(t any) []byte {
	switch t := t.(type) {
	case map[string]any:
		kept := make(map[string]json.RawMessage, len(t))
		for key, value := range t {
			switch {
			case key == "at":
				kept["read"] = encode(value != "0001-01-01T00:00:00Z")
			case !volatile[key]:
				kept[key] = canonical(value)
			}
		}
		return encode(kept)
	case []any:
		list := make([]json.RawMessage, len(t))
		for i, value := range t {
			list[i] = canonical(value)
		}
		slices.SortFunc(list, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
		return encode(list)
	case nil:
		return []byte("[]") // a missing list equals an empty one
	}
	return encode(t)
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("a snapshot is not plain data: " + err.Error())
	}
	return data
}
