// The strongest links of an epoch
//
// Trained weights, largest |weight| first, equal ones in the order of source and target; NaN is
// not among them. Only links that were loaded are there to be found.
//
// The strongest `top` links leave the `top` neurons whose largest link (largest_out) is largest, so
// no other neuron's links are looked at.
//
// parameters
//   run     string       name of the run
//   epoch   int
//   top     int = 20     how many
// columns
//   source_layer  string
//   source_index  int
//   target_layer  string
//   target_index  int
//   weight        float
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (s:NeuronState) WHERE s.id >= x.first AND s.id < x.first + x.neurons AND s.largest_out IS NOT NULL
WITH s ORDER BY s.largest_out DESC, s.neuron LIMIT $top
MATCH (s)-[k:LINK]->(t:NeuronState) WHERE k.weight = k.weight
WITH s, k, t ORDER BY abs(k.weight) DESC, s.neuron, t.neuron LIMIT $top
RETURN s.layer AS source_layer, s.index AS source_index,
       t.layer AS target_layer, t.index AS target_index, k.weight AS weight
ORDER BY abs(weight) DESC, s.neuron, t.neuron
