// The strongest neurons of a layer at an epoch
//
// As strong_neurons, for one layer.
//
// parameters
//   run     string                 name of the run
//   epoch   int
//   layer   string                 name of the layer
//   top     int = 20               how many
// columns
//   layer         string
//   index         int       place within the layer
//   neuron        int       id within the network
//   strength      float     sum of the weights of all links in and out
//   strength_in   float
//   strength_out  float
MATCH (n:NeuronState)
WHERE n.run = $run AND n.epoch = $epoch AND n.layer = $layer AND n.magnitude IS NOT NULL
  AND EXISTS { (:Snapshot {run: $run, epoch: $epoch, status: 'complete'}) }
RETURN n.layer AS layer, n.index AS index, n.neuron AS neuron,
       n.strength AS strength, n.strength_in AS strength_in, n.strength_out AS strength_out
ORDER BY n.run DESC, n.epoch DESC, n.layer DESC, n.magnitude DESC, n.neuron
LIMIT $top
