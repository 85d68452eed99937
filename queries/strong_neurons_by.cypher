// The neurons of an epoch that are strongest by another of their strengths
//
// Largest |value| first, equal ones in the order of their ids. All neurons of the epoch are read
// and sorted: only |strength| has an index.
//
// parameters
//   run     string                 name of the run
//   epoch   int
//   layer   string = null          only this layer
//   top     int = 20               how many
//   by      string                 one of strength, strength_absolute, strength_positive, strength_negative, strength_in, strength_out, degree_in, degree_out
// columns
//   layer         string
//   index         int       place within the layer
//   neuron        int       id within the network
//   strength      float     sum of the weights of all links in and out
//   strength_in   float
//   strength_out  float
//   value         float     what they are ranked by
MATCH (:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (n:NeuronState)
WHERE n.run = $run AND n.epoch = $epoch AND n[$by] IS NOT NULL
  AND ($layer IS NULL OR n.layer = $layer)
RETURN n.layer AS layer, n.index AS index, n.neuron AS neuron,
       n.strength AS strength, n.strength_in AS strength_in, n.strength_out AS strength_out,
       toFloat(n[$by]) AS value
ORDER BY abs(value) DESC, neuron
LIMIT $top
