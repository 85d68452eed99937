// How many strong neurons two runs of one architecture share, layer by layer
//
// The neurons with the largest |strength| of every layer are compared by their place in it: runs
// that began with the same weights are the ones to compare.
//
// parameters
//   run          string       name of the run
//   epoch        int
//   other        string       name of another run, or the same
//   other_epoch  int
//   top          int = 20     how many of a layer count as strong
// columns
//   layer    string
//   of       int       how many were compared
//   shared   int
//   jaccard  float     shared among all that are strong in either
MATCH (:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (:Snapshot {run: $other, epoch: $other_epoch, status: 'complete'})
MATCH (:Run {name: $run})-[:HAS_LAYER]->(l:Layer)
CALL (l) {
  MATCH (n:NeuronState)
  WHERE n.run = $run AND n.epoch = $epoch AND n.layer = l.name AND n.magnitude IS NOT NULL
  WITH n ORDER BY n.run DESC, n.epoch DESC, n.layer DESC, n.magnitude DESC, n.neuron LIMIT $top
  RETURN collect(n.index) AS here
}
CALL (l) {
  MATCH (n:NeuronState)
  WHERE n.run = $other AND n.epoch = $other_epoch AND n.layer = l.name AND n.magnitude IS NOT NULL
  WITH n ORDER BY n.run DESC, n.epoch DESC, n.layer DESC, n.magnitude DESC, n.neuron LIMIT $top
  RETURN collect(n.index) AS there
}
WITH l, here, there, size([i IN here WHERE i IN there]) AS shared
WHERE size(here) > 0 AND size(there) > 0
RETURN l.name AS layer, size(here) AS of, shared,
       toFloat(shared) / (size(here) + size(there) - shared) AS jaccard
ORDER BY l.index
