package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// event is a change of a row, in the form that Debezium gives it.
type event struct {
	Op     string         `json:"op"` // c, u, d: created, updated, deleted; r: read by a snapshot; t: the table was truncated
	Before map[string]any `json:"before"`
	After  map[string]any `json:"after"`
	Source struct {
		Table string `json:"table"`
	} `json:"source"`
}

// parse reads the value of a message, with or without the envelope that has its schema. A value
// that says nothing of a row, such as the null that follows a deletion, is not an event.
func parse(value []byte) (e event, ok bool, err error) {
	var envelope struct {
		Payload json.RawMessage `json:"payload"`
	}
	if value = bytes.TrimSpace(value); len(value) == 0 || bytes.Equal(value, []byte("null")) {
		return e, false, nil
	}
	if err := json.Unmarshal(value, &envelope); err != nil {
		return e, false, fmt.Errorf("not an event: %w", err)
	}
	if envelope.Payload != nil {
		if value = envelope.Payload; bytes.Equal(value, []byte("null")) {
			return e, false, nil
		}
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber() // numbers of 64 bits stay what they are
	if err := dec.Decode(&e); err != nil {
		return e, false, fmt.Errorf("not an event: %w", err)
	}
	switch e.Op {
	case "c", "u", "d", "r", "t":
	case "m", "": // a message of the program's own, a heartbeat, the begin or end of a transaction
		return e, false, nil
	default:
		return e, false, fmt.Errorf("an event of the unknown kind %q", e.Op)
	}
	if e.Source.Table == "" {
		return e, false, errors.New("an event of no table")
	}
	return e, true, nil
}
