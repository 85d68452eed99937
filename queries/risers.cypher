// The neurons whose strength changed most between two epochs
//
// Largest |change| first, equal ones in the order of their ids; change is the strength at the last
// epoch less that at the first.
//
// parameters
//   run     string       name of the run
//   first   int          an epoch
//   last    int          a later one
//   top     int = 20     how many
// columns
//   layer           string
//   index           int       place within the layer
//   neuron          int       id within the network
//   strength_first  float
//   strength_last   float
//   change          float
MATCH (:Snapshot {run: $run, epoch: $first, status: 'complete'})
MATCH (:Snapshot {run: $run, epoch: $last, status: 'complete'})
MATCH (a:NeuronState) WHERE a.run = $run AND a.epoch = $first
MATCH (a)<-[:HAS_STATE]-(:Neuron)-[:HAS_STATE]->(b:NeuronState) WHERE b.epoch = $last
WITH a, b, b.strength - a.strength AS change
WHERE change IS NOT NULL
RETURN a.layer AS layer, a.index AS index, a.neuron AS neuron,
       a.strength AS strength_first, b.strength AS strength_last, change
ORDER BY abs(change) DESC, neuron
LIMIT $top
