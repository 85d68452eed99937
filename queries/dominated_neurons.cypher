// Neurons whose strength is that of a few links
//
// Disparity is the sum of the squared shares of |weight| that the links of a neuron have in one
// direction: 1 where one link has it all, 1 / links where all are alike. Largest first; neurons
// with one link in that direction are left out. Only links that were loaded take part.
//
// Source: Barthelemy, Gondran and Guichard, 2003; Almaas et al., 2004.
//
// parameters
//   run     string       name of the run
//   epoch   int
//   top     int = 20     how many
// columns
//   layer             string
//   index             int       place within the layer
//   neuron            int       id within the network
//   direction         string    in or out
//   links             int
//   disparity         float
//   effective_degree  float     1 / disparity
//   largest_share     float     of the strongest link
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (n:NeuronState) WHERE n.id >= x.first AND n.id < x.first + x.neurons
CALL (n) {
  MATCH (n)<-[k:LINK]-()
  RETURN 'in' AS direction, count(k) AS links, sum(abs(k.weight)) AS size,
         sum(k.weight ^ 2) AS squares, max(abs(k.weight)) AS largest
  UNION ALL
  MATCH (n)-[k:LINK]->()
  RETURN 'out' AS direction, count(k) AS links, sum(abs(k.weight)) AS size,
         sum(k.weight ^ 2) AS squares, max(abs(k.weight)) AS largest
}
WITH n, direction, links, size, squares / size ^ 2 AS disparity, largest
WHERE links > 1 AND size > 0 AND disparity = disparity
RETURN n.layer AS layer, n.index AS index, n.neuron AS neuron, direction, links, disparity,
       1 / disparity AS effective_degree, largest / size AS largest_share
ORDER BY disparity DESC, neuron, direction
LIMIT $top
