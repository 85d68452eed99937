// Neurons whose strength changes its sign over the epochs
//
// Most flips first, then those with the largest swing, the largest strength less the smallest.
//
// parameters
//   run     string       name of the run
//   top     int = 20     how many
// columns
//   layer           string
//   index           int       place within the layer
//   neuron          int       id within the network
//   flips           int       how often the sign differs from that of the epoch before
//   strength_first  float     at the first epoch
//   strength_last   float     at the last
//   swing           float
MATCH (x:Snapshot {run: $run, status: 'complete'})
MATCH (n:NeuronState) WHERE n.run = $run AND n.epoch = x.epoch AND n.magnitude IS NOT NULL
WITH n ORDER BY n.epoch
WITH n.layer AS layer, n.index AS index, n.neuron AS neuron, collect(n.strength) AS s
WITH layer, index, neuron, s,
     size([i IN range(1, size(s) - 1) WHERE s[i] * s[i - 1] < 0]) AS flips,
     reduce(low = s[0], v IN s | CASE WHEN v < low THEN v ELSE low END) AS low,
     reduce(high = s[0], v IN s | CASE WHEN v > high THEN v ELSE high END) AS high
WHERE flips > 0
RETURN layer, index, neuron, flips, s[0] AS strength_first, s[-1] AS strength_last,
       high - low AS swing
ORDER BY flips DESC, swing DESC, neuron
LIMIT $top
