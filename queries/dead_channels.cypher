// Channels whose kernels died: no trained weight into them reaches a bound
//
// Of layers with channels, those channels into whose neurons every |weight| is below the bound.
//
// parameters
//   run     string             name of the run
//   epoch   int
//   below   float = 0.001     a channel is dead if all its weights are smaller
// columns
//   layer    string
//   channel  int
//   neurons  int       positions of the channel
//   largest  float     largest |weight| into it
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (:Run {name: $run})-[:HAS_LAYER]->(l:Layer)-[:HAS_NEURON]->(m:Neuron)
WHERE m.channel IS NOT NULL AND m.x IS NOT NULL
MATCH (t:NeuronState {id: x.first + m.neuron})
CALL (t) { MATCH (t)<-[k:LINK]-() RETURN max(abs(k.weight)) AS strongest }
WITH l, m.channel AS channel, count(t) AS neurons, max(strongest) AS largest
WHERE largest < $below
RETURN l.name AS layer, channel, neurons, largest
ORDER BY l.index, channel
