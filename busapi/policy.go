package busapi

import (
	"fmt"

	"github.com/dubnium/dubnium/policy"
)

// Policy is the reply of GetPolicy.
type Policy struct {
	// File is where the policy comes from; empty for no file.
	File string `json:"file"`
	// Settings are every key with its value, in the order of the schema.
	Settings []policy.Setting `json:"settings"`
}

// EncodePolicy is the reply of GetPolicy.
func EncodePolicy(p Policy) Dict { return encodeStruct(p) }

// DecodePolicy reads what EncodePolicy wrote.
func DecodePolicy(d Dict) (Policy, error) {
	var p Policy
	if err := decodeStruct(d, &p); err != nil {
		return p, fmt.Errorf("cannot decode the policy: %w", err)
	}
	return p, nil
}
