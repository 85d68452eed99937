// The strongest paths from the inputs to the outputs of an epoch
//
// A path runs from a neuron of an input layer to one of an output layer along loaded links; its
// product is that of the weights on it. Of all paths these have the largest |product|, none left
// out. Skips and averages count with their weight, pooling (kind select) as 1; what depends on the
// data (kind data) is not followed.
//
// Every neuron holds path_out, the largest |product| of a path from it to the outputs, so of a path
// that has come this far the best end is known. All inputs are begun with, and link by link the
// `top` beginnings with the best ends are kept: each of the `top` strongest paths begins with one.
//
// parameters
//   run     string       name of the run
//   epoch   int
//   top     int = 10     how many; some hundred at most, a server of 1 GB has no room for more
// columns
//   path      list      the neurons as "layer[index]"
//   product   float     product of the weights, with its sign
//   weakest   float     smallest |weight| of a trained link on it
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (:Run {name: $run})-[:HAS_LAYER]->(l:Layer)
WITH x, count(l) AS layers, collect(CASE l.kind WHEN 'output' THEN l.name END) AS outputs
CALL (x) {
  MATCH (:Run {name: $run})-[:HAS_LAYER]->(:Layer {kind: 'input'})-[:HAS_NEURON]->(m:Neuron)
  MATCH (n:NeuronState {id: x.first + m.neuron}) WHERE n.path_out > 0
  WITH n ORDER BY n.path_out DESC, n.id LIMIT $top
  RETURN collect({ids: [n.id], product: 1.0, weakest: null, ended: false}) AS beginnings
}
UNWIND reduce(kept = beginnings, step IN range(1, layers) | COLLECT {
  UNWIND kept AS b
  MATCH (s:NeuronState {id: b.ids[-1]})
  CALL (b, s, outputs) {
    WITH b, s, outputs WHERE b.ended OR s.layer IN outputs
    RETURN {ids: b.ids, product: b.product, weakest: b.weakest, ended: true} AS longer,
           abs(b.product) AS best
    UNION ALL
    WITH b, s WHERE NOT b.ended
    MATCH (s)-[k:LINK|CARRIES]->(t)
    WHERE abs(b.product * k.weight) * t.path_out > 0 AND coalesce(k.kind, '') <> 'data'
    RETURN {ids: b.ids + t.id, product: b.product * k.weight, ended: false,
            weakest: CASE WHEN type(k) <> 'LINK' OR b.weakest < abs(k.weight) THEN b.weakest
                          ELSE abs(k.weight) END} AS longer,
           abs(b.product * k.weight) * t.path_out AS best
  }
  WITH longer, best ORDER BY best DESC, longer.ids LIMIT $top
  RETURN longer
}) AS found
RETURN COLLECT { UNWIND found.ids AS id MATCH (n:NeuronState {id: id})
                 RETURN n.layer + '[' + n.index + ']' } AS path,
       found.product AS product, found.weakest AS weakest
ORDER BY abs(product) DESC, found.ids
