// The links into and out of one neuron
//
// Largest |weight| first, incoming and outgoing together; kind is weight for trained links,
// identity, fixed, scale, select or data for what is carried.
//
// parameters
//   run     string       name of the run
//   epoch   int
//   layer   string       name of the layer
//   index   int          place of the neuron within the layer
//   top     int = 20     how many
// columns
//   direction  string    in or out
//   layer      string    of the neuron at the other end
//   index      int
//   weight     float
//   kind       string
MATCH (:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (n:NeuronState {run: $run, layer: $layer, index: $index}) WHERE n.epoch = $epoch
MATCH (n)-[k:LINK|CARRIES]-(m)
WITH k, m, CASE WHEN endNode(k) = n THEN 'in' ELSE 'out' END AS direction
RETURN direction, m.layer AS layer, m.index AS index, k.weight AS weight,
       coalesce(k.kind, 'weight') AS kind
ORDER BY abs(weight) DESC, m.neuron, kind
LIMIT $top
