// Hidden neurons that are active for none of these inputs
//
// values are those of all neurons in the order of their ids, after activation, first of one sample,
// then of the next. The strongest link out says what they would bring if they were.
//
// parameters
//   run      string          name of the run
//   epoch    int
//   values   list            an array (samples, neurons)
//   above    float = 0.0     active is what has a larger |value|
//   top      int = 100       how many
// columns
//   layer        string
//   index        int       place within the layer
//   neuron       int       id within the network
//   largest      float     largest |value|
//   largest_out  float     largest |weight| out of it
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
WHERE size($values) > 0 AND size($values) % x.neurons = 0
WITH x, range(0, size($values) / x.neurons - 1) AS samples
MATCH (:Run {name: $run})-[:HAS_LAYER]->(:Layer {kind: 'hidden'})-[:HAS_NEURON]->(m:Neuron)
WITH x, m, reduce(largest = 0.0, i IN samples |
  CASE WHEN abs($values[i * x.neurons + m.neuron]) > largest
       THEN abs($values[i * x.neurons + m.neuron]) ELSE largest END) AS largest
WHERE largest <= $above
MATCH (n:NeuronState {id: x.first + m.neuron})
RETURN n.layer AS layer, n.index AS index, n.neuron AS neuron, largest,
       n.largest_out AS largest_out
ORDER BY neuron
LIMIT $top
