// One layer computed: the sums of its neurons and their activations
//
// values are those of the neurons with the ids 0, 1, 2 ... up to the last that the layer reads, the
// inputs first: for the first layer the image, flattened. Appending value to them gives what the
// next layer in the order of the layers reads, so asked once a layer it is the forward pass.
//
// A sum is null where values ends before what it reads, or where a layer joins by something else
// than sums and max pooling; value is null for activations other than those below, which you can
// add. All links of the epoch must be loaded.
//
// parameters
//   run      string    name of the run
//   epoch    int
//   layer    string    name of the layer
//   values   list      of the neurons before it, in the order of their ids
// columns
//   index   int       place within the layer
//   neuron  int       id within the network
//   sum     float     what arrives, with bias, batch norm and skips
//   value   float     its activation
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete', choice: 'all'})
MATCH (:Run {name: $run})-[:HAS_LAYER]->(l:Layer {name: $layer})
CALL (x, l) {
  MATCH (l)-[:HAS_NEURON]->(m:Neuron)
  MATCH (t:NeuronState {id: x.first + m.neuron})
  RETURN collect(t) AS neurons, count(t.bias) > 0 OR max(COUNT { (t)<-[:LINK]-() }) > 0 AS trained
}
UNWIND neurons AS t
CALL (t) {
  OPTIONAL MATCH (t)<-[k:LINK]-(s)
  WITH k, k.weight * $values[s.neuron] AS v
  RETURN CASE WHEN count(k) = count(v) THEN sum(v) END AS brought
}
CALL (t, l) {
  OPTIONAL MATCH (t)<-[k:CARRIES]-(s)
  WITH l, k, $values[s.neuron] AS v
  WITH l.join AS join, count(k) > count(v) AS unknown, sum(k.weight * v) AS total, max(v) AS largest
  RETURN CASE WHEN unknown THEN null
              WHEN join IS NULL THEN total
              WHEN join =~ '(adaptive_max_pool|a?max).*' THEN largest END AS carried
}
WITH l, t, CASE WHEN l.kind = 'input' THEN $values[t.neuron] WHEN l.kind = 'constant' THEN t.value
                WHEN l.join IS NOT NULL THEN carried
                ELSE (CASE WHEN trained THEN brought ELSE carried END + coalesce(t.bias, 0.0))
                     * coalesce(t.gain, 1.0) + coalesce(t.shift, 0.0)
                     + CASE WHEN trained THEN carried ELSE 0.0 END END AS z
RETURN t.index AS index, t.neuron AS neuron, z AS sum,
       CASE WHEN l.activation IS NULL THEN z
            WHEN l.activation = 'relu' THEN CASE WHEN z <= 0 THEN 0.0 ELSE z END
            WHEN l.activation STARTS WITH 'leaky_relu' THEN CASE WHEN z > 0 THEN z ELSE z *
              coalesce(toFloat(rtrim(split(l.activation, '(')[1], ')')), 0.01) END
            WHEN l.activation = 'sigmoid' THEN 1 / (1 + exp(-z))
            WHEN l.activation = 'tanh' THEN 1 - 2 / (1 + exp(2 * z))
            WHEN l.activation = 'silu' THEN z / (1 + exp(-z)) END AS value
ORDER BY index
