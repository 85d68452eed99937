// The strongest neurons of an epoch
//
// Strongest first by |strength|, which is stored as magnitude and read in the order of an index;
// equal ones in the order of their ids. A neuron whose strength is NaN is not among them.
//
// parameters
//   run     string                 name of the run
//   epoch   int
//   layer   string = null          only this layer
//   top     int = 20               how many
//   by      string = "strength"    one of strength, strength_absolute, strength_positive, strength_negative, strength_in, strength_out, degree_in, degree_out
// columns
//   layer         string
//   index         int       place within the layer
//   neuron        int       id within the network
//   strength      float     sum of the weights of all links in and out
//   strength_in   float
//   strength_out  float
// instead
//   strong_neurons_by         where by       ranks by another strength than this one
//   strong_neurons_in_layer   where layer    has an index of its own
MATCH (n:NeuronState)
WHERE n.run = $run AND n.epoch = $epoch AND n.magnitude IS NOT NULL
  AND ($layer IS NULL OR n.layer = $layer) AND $by = 'strength'
  AND EXISTS { (:Snapshot {run: $run, epoch: $epoch, status: 'complete'}) }
RETURN n.layer AS layer, n.index AS index, n.neuron AS neuron,
       n.strength AS strength, n.strength_in AS strength_in, n.strength_out AS strength_out
ORDER BY n.run DESC, n.epoch DESC, n.magnitude DESC, n.neuron
LIMIT $top
