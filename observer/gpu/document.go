package gpu

import (
	"errors"
	"fmt"
	"math"

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
)

// Document is what the GPU probe writes.
type Document struct {
	// Driver is required. False: the host has no NVIDIA driver, and Cards is empty.
	Driver *bool           `json:"driver"`
	Cards  []observer.Card `json:"cards"`
	// Error is why the probe could not read NVML.
	Error string `json:"error,omitempty"`
}

// Limits of a valid document. Those of NVML are lower.
const (
	maxCards     = 64
	maxProcesses = 4096
	maxList      = 64
	maxName      = 600
	maxText      = 200
)

// Fault is why the probe could not read NVML, empty if it could.
func (d Document) Fault() string { return d.Error }

// Decode parses a document and validates it.
func Decode(data []byte) (Document, error) {
	var d Document
	if err := probeclient.Decode(data, &d); err != nil {
		return Document{}, err
	}
	if d.Error != "" {
		return Document{Error: probeclient.Clean(d.Error, maxText)}, nil
	}
	switch {
	case d.Driver == nil || d.Cards == nil:
		return Document{}, errors.New("its answer lacks the driver or the cards")
	case !*d.Driver && len(d.Cards) > 0:
		return Document{}, errors.New("it lists cards without a driver")
	case len(d.Cards) > maxCards:
		return Document{}, fmt.Errorf("it lists more than %d cards", maxCards)
	}
	seen := map[string]bool{}
	for i := range d.Cards {
		c := &d.Cards[i]
		if c.PCI != "" && seen[c.PCI] {
			return Document{}, fmt.Errorf("it lists %s twice", probeclient.Clean(c.PCI, maxText))
		}
		seen[c.PCI] = true
		if err := checkCard(c); err != nil {
			return Document{}, err
		}
	}
	return d, nil
}

// checkCard rejects a card that the probe cannot have written, and cleans its strings.
func checkCard(c *observer.Card) error {
	for _, text := range []*string{&c.UUID, &c.Name, &c.Reason} {
		*text = probeclient.Clean(*text, maxText)
	}
	switch {
	case c.PCI == "" && c.Reason == "":
		return errors.New("it lists a card without an address and without a reason")
	case c.PCI != "" && !observer.IsPCI(c.PCI):
		return fmt.Errorf("it lists a card at %q", probeclient.Clean(c.PCI, maxText))
	case c.Reason != "":
		*c = observer.Card{PCI: c.PCI, UUID: c.UUID, Name: c.Name, Reason: c.Reason}
	}
	c.MemoryTotal, c.MemoryUsed = measure(c.MemoryTotal), measure(c.MemoryUsed)
	for _, list := range []*observer.CardProcesses{&c.Compute, &c.Graphics} {
		if err := checkProcesses(list); err != nil {
			return fmt.Errorf("for %s %w", c.PCI, err)
		}
	}
	return nil
}

func checkProcesses(list *observer.CardProcesses) error {
	list.Reason = probeclient.Clean(list.Reason, maxText)
	if len(list.Processes) > maxProcesses {
		return fmt.Errorf("it lists more than %d processes", maxProcesses)
	}
	for i := range list.Processes {
		p := &list.Processes[i]
		if p.PID <= 0 || len(p.Slices) > maxList {
			return fmt.Errorf("it lists a process with pid %d and %d slices", p.PID, len(p.Slices))
		}
		p.Command, p.Unit = probeclient.Clean(p.Command, maxList), probeclient.Clean(p.Unit, maxName)
		for j := range p.Slices {
			p.Slices[j] = probeclient.Clean(p.Slices[j], maxName)
		}
		p.Memory, p.Redacted = measure(p.Memory), false
	}
	return nil
}

// measure drops a value that cannot be a number of bytes.
func measure(m observer.Measure) observer.Measure {
	if n := m.Value; n != nil && *n >= 0 && !math.IsInf(*n, 0) && !math.IsNaN(*n) {
		return observer.Measure{Value: n}
	}
	if m.Reason == "" {
		m.Reason = "the driver does not report it"
	}
	return observer.Measure{Reason: probeclient.Clean(m.Reason, maxText)}
}
