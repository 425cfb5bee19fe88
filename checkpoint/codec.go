package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// stored is a record as the stores write it: with the name of the pipeline it belongs to.
type stored struct {
	Pipeline string `json:"pipeline"`
	Record
}

// encode writes a record as JSON, as the current version and with a time where it has none. It
// refuses a record that decode would refuse.
func encode(pipeline string, r Record) ([]byte, error) {
	r.Version = Version
	if r.Time.IsZero() {
		r.Time = time.Now().UTC()
	}
	s := stored{Pipeline: pipeline, Record: r}
	if err := s.check(pipeline); err != nil {
		return nil, fault.New(fault.Internal, "encode the checkpoint", err, "")
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fault.New(fault.Internal, "encode the checkpoint", err, "")
	}
	return data, nil
}

// decode reads what encode wrote. Where says which bytes they are, for the error. Members that are
// not known are ignored: a change that an older walferry must not ignore raises the version.
func decode(pipeline, where string, data []byte) (*Record, error) {
	op := "read the checkpoint in " + where
	// The version is read by itself first: a newer record need not fit today's struct.
	var header struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(data, &header); err != nil {
		return nil, invalid(op, err)
	}
	if header.Version > Version {
		return nil, fault.New(fault.CheckpointNewer, op,
			fmt.Errorf("the record has version %d, this walferry reads up to %d", header.Version, Version),
			"Run the walferry that wrote it, or a newer one. To go back for good, from what the slot has confirmed, which repeats what came after:\nwalferry slot adopt")
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, invalid(op, err)
	}
	if err := s.check(pipeline); err != nil {
		return nil, invalid(op, err)
	}
	return &s.Record, nil
}

func invalid(op string, err error) error {
	return fault.New(fault.CheckpointInvalid, op, err,
		"Somebody else wrote there, or the storage is damaged. Put back the very checkpoint that the last run left; an older copy is refused, because the slot has moved past it. "+
			"Where there is none, go on from what the slot has confirmed: it is never ahead of what was delivered, so nothing is lost and some changes may come again.\nwalferry slot adopt")
}

// check tells what a record lacks that a start could not do without.
func (s *stored) check(pipeline string) error {
	switch {
	case s.Version < 1:
		return fmt.Errorf("the version is %d", s.Version)
	case s.Pipeline != pipeline:
		return fmt.Errorf("it belongs to the pipeline %q, not to %q", s.Pipeline, pipeline)
	case s.SystemID == "" || s.Database == "" || s.Slot == "":
		return errors.New("system_id, database or slot is missing")
	case s.Intent:
		return nil
	case s.Timeline == 0 || s.End.IsZero():
		return errors.New("timeline or end_lsn is missing")
	case s.Partial != event.Position{} && s.Partial.Commit < s.End:
		return fmt.Errorf("the partial transaction %v is older than end_lsn %v", s.Partial, s.End)
	}
	for topic, n := range s.Partitions {
		if n < 1 {
			return fmt.Errorf("the topic %q has %d partitions", topic, n)
		}
	}
	return nil
}
