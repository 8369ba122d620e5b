package busapi

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
)

// EncodeExplanation is the reply of Explain.
func EncodeExplanation(e observer.Explanation) Dict { return encodeStruct(e) }

// DecodeExplanation reads what EncodeExplanation wrote.
func DecodeExplanation(d Dict) (observer.Explanation, error) {
	var e observer.Explanation
	if err := decodeStruct(d, &e); err != nil {
		return e, fmt.Errorf("cannot decode the explanation: %w", err)
	}
	return e, nil
}
