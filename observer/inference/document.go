package inference

import (
	"errors"
	"math"

	"github.com/dubnium/dubnium/internal/probeclient"
)

// Document is what the inference probe writes.
type Document struct {
	// Healthy is always there: a document without it is a broken one.
	Healthy *bool `json:"healthy"`
	// HealthText says what the health check answered when it is not healthy.
	HealthText string `json:"health_text,omitempty"`
	// NotListening: the health check was refused by a closed port.
	NotListening bool `json:"not_listening,omitempty"`
	// Running and Waiting are the requests in flight over every label set; null
	// when the metric could not be read, which is not the same as none.
	Running *float64 `json:"running"`
	Waiting *float64 `json:"waiting"`
	// Error says why there is no answer at all.
	Error string `json:"error,omitempty"`
}

const maxText = 200

// Fault says why the probe could not look.
func (d Document) Fault() string { return d.Error }

// Decode reads a document and checks it against the schema.
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

// count lets through what can be a number of requests.
func count(n *float64) *float64 {
	if n == nil || *n < 0 || math.IsInf(*n, 0) || math.IsNaN(*n) {
		return nil
	}
	return n
}
