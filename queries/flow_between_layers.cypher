// What the trained links between each pair of layers add up to
//
// Links that were loaded, in the order of the layers; absolute is the sum of the sizes.
//
// parameters
//   run     string    name of the run
//   epoch   int
// columns
//   source_layer  string
//   target_layer  string
//   links         int
//   total         float     sum of the weights
//   positive      float     sum of those above zero
//   negative      float     sum of those below zero
//   absolute      float
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (s:NeuronState) WHERE s.id >= x.first AND s.id < x.first + x.neurons
MATCH (s)-[k:LINK]->(t)
WITH s.layer AS source_layer, t.layer AS target_layer, min(s.id) AS first, min(t.id) AS last,
     count(k) AS links, sum(k.weight) AS total,
     sum(CASE WHEN k.weight > 0 THEN k.weight ELSE 0.0 END) AS positive,
     sum(CASE WHEN k.weight < 0 THEN k.weight ELSE 0.0 END) AS negative,
     sum(abs(k.weight)) AS absolute
RETURN source_layer, target_layer, links, total, positive, negative, absolute
ORDER BY last, first
