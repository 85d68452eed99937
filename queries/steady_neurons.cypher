// Neurons that are strong at every epoch, the steadiest first
//
// Of the `among` neurons with the largest |strength| at an epoch those that are so at every epoch;
// change is the largest strength less the smallest.
//
// parameters
//   run     string        name of the run
//   among   int = 100     how many neurons of an epoch count as strong
//   top     int = 20      how many
// columns
//   layer     string
//   index     int       place within the layer
//   neuron    int       id within the network
//   mean      float     of the strengths of all epochs
//   smallest  float
//   largest   float
//   change    float
MATCH (x:Snapshot {run: $run, status: 'complete'})
WITH collect(x) AS epochs
UNWIND epochs AS x
CALL (x) {
  MATCH (n:NeuronState)
  WHERE n.run = $run AND n.epoch = x.epoch AND n.magnitude IS NOT NULL
  RETURN n ORDER BY n.run DESC, n.epoch DESC, n.magnitude DESC, n.neuron LIMIT $among
}
WITH epochs, n.neuron AS neuron, n.layer AS layer, n.index AS index, collect(n.strength) AS s
WHERE size(s) = size(epochs)
WITH neuron, layer, index, reduce(total = 0.0, v IN s | total + v) / size(s) AS mean,
     reduce(low = s[0], v IN s | CASE WHEN v < low THEN v ELSE low END) AS smallest,
     reduce(high = s[0], v IN s | CASE WHEN v > high THEN v ELSE high END) AS largest
RETURN layer, index, neuron, mean, smallest, largest, largest - smallest AS change
ORDER BY change, neuron
LIMIT $top
