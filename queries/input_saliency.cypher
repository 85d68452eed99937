// What one neuron's sum depends on most among the inputs: its derivative by each of them
//
// The exact derivative at the given values, backwards from the neuron layer by layer: of the sum,
// before a softmax. It is known through the activations relu, leaky_relu, tanh and sigmoid, through
// skips and batch norms, and through max pooling, where it goes to the largest, of equal ones to
// the first. It is null where it leads through anything else.
//
// values are those of all neurons in the order of their ids, after activation: evaluate_layer gives
// them layer by layer, cnt.activity(network, sample)["neurons_activation"] at once. All links of
// the epoch must be loaded; half a million take some two seconds.
//
// parameters
//   run      string       name of the run
//   epoch    int
//   layer    string       name of the layer, often the last
//   index    int          place of the neuron within the layer
//   values   list         of all neurons, in the order of their ids
//   top      int = 20     how many inputs
// columns
//   layer       string    of the input
//   index       int       place within the layer
//   neuron      int       id within the network
//   value       float     of the input
//   derivative  float     of the sum by it, largest |derivative| first
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete', choice: 'all'})
MATCH (:Run {name: $run})-[:HAS_LAYER]->(:Layer {name: $layer})
      -[:HAS_NEURON]->(o:Neuron {index: $index})
MATCH (:Run {name: $run})-[:HAS_LAYER]->(l:Layer)-[:HAS_NEURON]->(m:Neuron {index: 0})
CALL (x, l, m) {
  MATCH (t:NeuronState) WHERE t.id >= x.first + m.neuron AND t.id < x.first + m.neuron + l.size
  RETURN count(t.bias) > 0 OR max(COUNT { (t)<-[:LINK]-() }) > 0 AS trained
}
WITH x, o, l, m.neuron AS first, trained ORDER BY l.index DESC
WITH x, o, collect({layer: l, first: first, trained: trained}) AS layers
// for each neuron from a layer on: the derivative by what links bring it, and by what is carried
WITH x, layers, reduce(after = {first: x.neurons, rows: []}, here IN layers | {
  first: here.first,
  rows: COLLECT {
    MATCH (s:NeuronState)
    WHERE s.id >= x.first + here.first AND s.id < x.first + here.first + here.layer.size
    // sums by reduce, which 5.26 takes at this place: unknown where one of the terms is
    WITH s, reduce(total = 0.0, d IN COLLECT {
           MATCH (s)-[k:LINK]->(t)
           RETURN k.weight * after.rows[t.neuron - after.first][0]
         } | total + d) + reduce(total = 0.0, d IN COLLECT {
           MATCH (s)-[k:CARRIES]->(t)
           WHERE k.kind <> 'select' OR NOT EXISTS {
             (t)<-[:CARRIES]-(r) WHERE $values[r.neuron] > $values[s.neuron]
                                    OR $values[r.neuron] = $values[s.neuron] AND r.neuron < s.neuron }
           RETURN k.weight * after.rows[t.neuron - after.first][1]
         } | total + d) AS d, here.layer.activation AS f, $values[s.neuron] AS a
    WITH s, CASE WHEN d = 0 AND s.neuron <> o.neuron THEN 0.0
                 WHEN NOT here.layer.join =~ '(adaptive_max_pool|a?max).*' THEN null
                 WHEN s.neuron = o.neuron THEN 1.0 WHEN f IS NULL THEN d
                 WHEN f = 'relu' THEN CASE WHEN a > 0 THEN d ELSE 0.0 END
                 WHEN f STARTS WITH 'leaky_relu' THEN CASE WHEN a > 0 THEN d ELSE d *
                   coalesce(toFloat(rtrim(split(f, '(')[1], ')')), 0.01) END
                 WHEN f = 'sigmoid' THEN d * a * (1 - a)
                 WHEN f = 'tanh' THEN d * (1 - a * a) END AS d,
         coalesce(s.gain, 1.0) AS gain
    ORDER BY s.id
    RETURN [d * gain, CASE WHEN here.trained THEN d ELSE d * gain END]
  } + after.rows
}).rows AS derivatives
UNWIND layers AS here
WITH derivatives, here.layer AS l, here.first AS first WHERE l.kind = 'input'
UNWIND range(0, l.size - 1) AS index
WITH l, index, first + index AS neuron, derivatives[first + index][1] AS derivative
RETURN l.name AS layer, index, neuron, $values[neuron] AS value, derivative
ORDER BY abs(derivative) DESC, neuron
LIMIT $top
