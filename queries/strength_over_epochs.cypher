// The strength of one neuron over the epochs
//
// parameters
//   run     string    name of the run
//   layer   string    name of the layer
//   index   int       place of the neuron within the layer
// columns
//   epoch         int
//   strength      float     sum of the weights of all links in and out
//   strength_in   float
//   strength_out  float
MATCH (n:NeuronState)
WHERE n.run = $run AND n.layer = $layer AND n.index = $index
MATCH (:Snapshot {run: $run, epoch: n.epoch, status: 'complete'})
RETURN n.epoch AS epoch,
       n.strength AS strength, n.strength_in AS strength_in, n.strength_out AS strength_out
ORDER BY epoch
