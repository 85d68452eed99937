// Stored strengths against the sums of the links in the database
//
// The largest |stored strength - sum of the weights of all LINKs in and out| of every layer: some
// 1e-12 where all links of the epoch are loaded and the run's convention is plain, more where
// only some links are. Layers whose strengths are NaN are left out.
//
// parameters
//   run     string    name of the run
//   epoch   int
// columns
//   layer               string
//   largest_difference  float
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (n:NeuronState) WHERE n.id >= x.first AND n.id < x.first + x.neurons
CALL (n) { OPTIONAL MATCH (n)-[k:LINK]->() RETURN sum(k.weight) AS outgoing }
CALL (n) { OPTIONAL MATCH (n)<-[k:LINK]-() RETURN sum(k.weight) AS incoming }
WITH n.layer AS layer, min(n.neuron) AS first,
     max(abs(n.strength - (incoming + outgoing))) AS largest_difference
WHERE largest_difference IS NOT NULL
RETURN layer, largest_difference
ORDER BY first
