// Hidden neurons that hardly anything depends on
//
// No trained |weight| out of them reaches the bound; smallest first. Neurons whose values are also
// carried on, past a skip or into a pooling, are left out.
//
// parameters
//   run     string            name of the run
//   epoch   int
//   below   float = 0.001     the bound
//   top     int = 100         how many
// columns
//   layer              string
//   index              int       place within the layer
//   neuron             int       id within the network
//   largest_out        float     largest |weight| out of it
//   strength_absolute  float
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (:Run {name: $run})-[:HAS_LAYER]->(:Layer {kind: 'hidden'})-[:HAS_NEURON]->(m:Neuron)
MATCH (n:NeuronState {id: x.first + m.neuron})
WHERE n.largest_out < $below AND NOT EXISTS { (n)-[:CARRIES]->() }
RETURN n.layer AS layer, n.index AS index, n.neuron AS neuron, n.largest_out AS largest_out,
       n.strength_absolute AS strength_absolute
ORDER BY largest_out, neuron
LIMIT $top
