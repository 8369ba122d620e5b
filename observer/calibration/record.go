package calibration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Format and Version name what is written; a reader refuses any other.
const (
	Format  = "dubnium-gpu-calibration"
	Version = 1
)

// header is the first line of a record; a release is on each other line.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// Begin writes the first line of a record.
func Begin(w io.Writer) error { return json.NewEncoder(w).Encode(header{Format, Version}) }

// Write adds a release to a record.
func Write(w io.Writer, r Release) error { return json.NewEncoder(w).Encode(r) }

// Read reads a record. One that was cut off in the middle of its last line is
// read up to there; kept is how many bytes those are, so that a writer goes on
// behind them.
func Read(r io.Reader) (releases []Release, kept int64, err error) {
	lines := bufio.NewReader(r)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // a line without its end was cut off
			return releases, kept, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read the record: %w", err)
		}
		if number == 1 {
			var h header
			if err := json.Unmarshal(line, &h); err != nil || h.Format != Format || h.Version != Version {
				return nil, 0, errors.New("cannot read the record: it is none of this version")
			}
		} else {
			var release Release
			if err := json.Unmarshal(line, &release); err != nil {
				return nil, 0, fmt.Errorf("cannot read the record: line %d: %w", number, err)
			}
			releases = append(releases, release)
		}
		kept += int64(len(line))
	}
}
