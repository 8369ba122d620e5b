package daemon

import (
	"reflect"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/observer"
)

// publishPlacement tells where each capability is and which GPUs there are: on disk when it
// is another than what is there, in the view always.
func (e *Controller) publishPlacement() {
	places, topology := e.policy.Placement.Places(), observer.TopologyOf(e.policy, e.state.Snapshot.Processes)
	if e.placementWritten && reflect.DeepEqual(places, e.state.Placement) && reflect.DeepEqual(topology, e.state.Topology) {
		return
	}
	e.state.Placement, e.state.Topology = places, topology
	err := e.files.setPlacement(places, topology)
	e.placementWritten = err == nil // else it is tried again with the next look
	if err != nil {
		e.log.Error("cannot write the placement and the topology", zap.Error(err))
	}
}
