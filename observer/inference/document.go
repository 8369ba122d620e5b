package inference

import (
	"errors"
	"math"

	"github.com/dubnium/dubnium/internal/probeclient"
)

// Document is what the inference probe writes.
type Document struct {
	// Healthy is required.
	Healthy *bool `json:"healthy"`
	// HealthText is the answer of the health check if it is not healthy.
	HealthText string `json:"health_text,omitempty"`
	// NotListening: the port of the health check is closed.
	NotListening bool `json:"not_listening,omitempty"`
	// Running and Waiting are the requests in flight, summed over all label sets; null if
	// the metric could not be read.
	Running *float64 `json:"running"`
	Waiting *float64 `json:"waiting"`
	// Error is why the probe could not read vLLM at all.
	Error string `json:"error,omitempty"`
}

const maxText = 200

// Fault is why the probe could not read vLLM, empty if it could.
func (d Document) Fault() string { return d.Error }

// Decode parses a document and validates it.
func Decode(data []byte) (Document, error) {
	var d Document
	if err := probeclient.Decode(data, &d); err != nil {
		return Document{}, err
	}
	d.HealthText, d.Error = probeclient.Clean(d.HealthText, maxText), probeclient.Clean(d.Error, maxText)
	if d.Error != "" {
		return Document{Error: d.Error}, nil
	}
	if d.Healthy == nil {
		return Document{}, errors.New("its answer lacks the health")
	}
	d.Running, d.Waiting = count(d.Running), count(d.Waiting)
	return d, nil
}

// count drops a value that cannot be a number of requests.
func count(n *float64) *float64 {
	if n == nil || *n < 0 || math.IsInf(*n, 0) || math.IsNaN(*n) {
		return nil
	}
	return n
}
