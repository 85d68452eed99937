// The strongest paths through a skip connection
//
// A trained link into a neuron, the skip that carries its value on (identity or scale), and a
// trained link out of where it arrives; the largest |product| of the three weights first.
//
// parameters
//   run     string       name of the run
//   epoch   int
//   top     int = 20     how many
// columns
//   path      list      the four neurons as "layer[index]"
//   product   float     product of the weights, with its sign
//   skip      string    kind of the skip: identity or scale
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (b:NeuronState) WHERE b.id >= x.first AND b.id < x.first + x.neurons
MATCH (b)-[skip:CARRIES]->(c) WHERE skip.kind IN ['identity', 'scale']
CALL (b) {
  MATCH (a)-[k:LINK]->(b)
  RETURN a, k.weight AS into ORDER BY abs(into) DESC, a.neuron LIMIT $top
}
CALL (c) {
  MATCH (c)-[k:LINK]->(d)
  RETURN d, k.weight AS out ORDER BY abs(out) DESC, d.neuron LIMIT $top
}
WITH a, b, c, d, skip, into * skip.weight * out AS product
ORDER BY abs(product) DESC, a.neuron, b.neuron, c.neuron, d.neuron LIMIT $top
RETURN [n IN [a, b, c, d] | n.layer + '[' + n.index + ']'] AS path, product, skip.kind AS skip
ORDER BY abs(product) DESC, a.neuron, b.neuron, c.neuron, d.neuron
