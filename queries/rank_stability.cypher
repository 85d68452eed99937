// How many of the strongest neurons were among the strongest an epoch before
//
// The strongest by |strength| of every epoch are compared with those of the epoch loaded before it.
//
// parameters
//   run     string        name of the run
//   top     int = 100     how many neurons count as the strongest
// columns
//   epoch     int
//   previous  int     the epoch it is compared with
//   shared    int     neurons that are among the strongest of both
MATCH (x:Snapshot {run: $run, status: 'complete'})
CALL (x) {
  MATCH (n:NeuronState)
  WHERE n.run = $run AND n.epoch = x.epoch AND n.magnitude IS NOT NULL
  WITH n ORDER BY n.run DESC, n.epoch DESC, n.magnitude DESC, n.neuron LIMIT $top
  RETURN collect(n.neuron) AS strongest
}
WITH x, strongest ORDER BY x.epoch
WITH collect(x.epoch) AS epochs, collect(strongest) AS strongest
UNWIND range(1, size(epochs) - 1) AS i
RETURN epochs[i] AS epoch, epochs[i - 1] AS previous,
       size([n IN strongest[i] WHERE n IN strongest[i - 1]]) AS shared
ORDER BY epoch
