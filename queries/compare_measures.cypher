// The strongest neurons and their ranks by every stored measure
//
// A rank is 1 more than the number of neurons of the epoch with a larger value, |value| for the
// strength; equal values have equal ranks. Every measure stored with the run gives two columns:
// its value, and its rank as rank_ and its name.
//
// parameters
//   run     string       name of the run
//   epoch   int
//   top     int = 20     how many
// columns
//   layer          string
//   index          int       place within the layer
//   neuron         int       id within the network
//   strength       float
//   rank_strength  int
//   *measures      list      {name, value} of every measure and of its rank
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
CALL (x) {
  MATCH (n:NeuronState) WHERE n.id >= x.first AND n.id < x.first + x.neurons
  WITH x, collect(n) AS neurons
  UNWIND ['magnitude'] + x.measures AS measure
  RETURN collect([n IN neurons WHERE n[measure] IS NOT NULL | n[measure]]) AS values
}
MATCH (n:NeuronState)
WHERE n.run = $run AND n.epoch = $epoch AND n.magnitude IS NOT NULL
WITH x, values, n ORDER BY n.run DESC, n.epoch DESC, n.magnitude DESC, n.neuron LIMIT $top
WITH x, n, [i IN range(0, size(x.measures)) |
  1 + size([v IN values[i] WHERE v > n[(['magnitude'] + x.measures)[i]]])] AS ranks
RETURN n.layer AS layer, n.index AS index, n.neuron AS neuron,
       n.strength AS strength, ranks[0] AS rank_strength,
       reduce(pairs = [], i IN range(1, size(x.measures)) | pairs + [
         {name: x.measures[i - 1], value: n[x.measures[i - 1]]},
         {name: 'rank_' + x.measures[i - 1],
          value: CASE WHEN n[x.measures[i - 1]] IS NOT NULL THEN ranks[i] END}]) AS measures
ORDER BY n.magnitude DESC, neuron
