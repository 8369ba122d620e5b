package observer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// volatile are the keys of a snapshot that differ from look to look on a host
// where nothing happens: times, measures, which guards judge at the moment they are
// needed, and our own lock, which is held while a plan is carried out.
var volatile = map[string]bool{
	"at": true, "active_since": true, "woken_at": true, "running": true, "waiting": true, "procfs": true,
	"memory_used": true, "memory": true, "free": true, "transition_lock": true,
}

// Fingerprint is the same for two snapshots that say the same of the host, at
// whatever time and in whatever order they say it.
func (s Snapshot) Fingerprint() string {
	sum := sha256.Sum256(canonical(tree(s)))
	return hex.EncodeToString(sum[:16])
}

// tree is v as encoding/json shows it: the shapes are plain data, so that it
// cannot fail, and numbers keep all their digits.
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

// canonical writes a tree without what is volatile and with every list in one
// order. Whether a source was looked at is no time: it stays.
func canonical(t any) []byte {
	switch t := t.(type) {
	case map[string]any:
		kept := make(map[string]json.RawMessage, len(t))
		for key, value := range t {
			switch {
			case key == "at":
				kept["looked"], _ = json.Marshal(value != "0001-01-01T00:00:00Z") // a bool
			case !volatile[key]:
				kept[key] = canonical(value)
			}
		}
		return plain(kept)
	case []any:
		list := make([]json.RawMessage, len(t))
		for i, value := range t {
			list[i] = canonical(value)
		}
		slices.SortFunc(list, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
		return plain(list)
	case nil:
		return []byte("[]") // an empty list is as good as none
	}
	return plain(t)
}

func plain(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("a snapshot is not plain data: " + err.Error())
	}
	return data
}
