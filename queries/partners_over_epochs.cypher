// How the strongest partners of a neuron change over the epochs
//
// At every epoch the `top` links into the neuron and the `top` out of it with the largest |weight|,
// rank 1 first; equal ones in the order of the partners' ids.
//
// parameters
//   run     string      name of the run
//   layer   string      name of the layer
//   index   int         place of the neuron within the layer
//   top     int = 3     how many in either direction
// columns
//   epoch      int
//   direction  string    in or out
//   rank       int
//   layer      string    of the partner
//   index      int
//   weight     float
MATCH (x:Snapshot {run: $run, status: 'complete'})
MATCH (n:NeuronState {run: $run, layer: $layer, index: $index}) WHERE n.epoch = x.epoch
CALL (n) {
  MATCH (n)<-[k:LINK]-(m)
  WITH m, k.weight AS weight ORDER BY abs(weight) DESC, m.neuron LIMIT $top
  RETURN 'in' AS direction, collect({m: m, weight: weight}) AS partners
  UNION ALL
  MATCH (n)-[k:LINK]->(m)
  WITH m, k.weight AS weight ORDER BY abs(weight) DESC, m.neuron LIMIT $top
  RETURN 'out' AS direction, collect({m: m, weight: weight}) AS partners
}
UNWIND range(0, size(partners) - 1) AS i
WITH x, direction, i + 1 AS rank, partners[i].m AS m, partners[i].weight AS weight
RETURN x.epoch AS epoch, direction, rank, m.layer AS layer, m.index AS index, weight
ORDER BY epoch, direction, rank
