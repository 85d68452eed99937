// Communities by Leiden, by Graph Data Science
//
// Directions are left out, as Leiden asks; the numbers of the communities say nothing.
// Links that carry a value (skips, pooling) take part beside the trained ones.
//
// The links of the sign asked for are projected, and the projection is dropped at the end; what one
// that failed has left is dropped first, once it is ten minutes old. Graph Data Science ignores
// negative weights, so |w|, w+ and -w- are graphs of their own.
//
// parameters
//   run    string                name of the run
//   epoch  int
//   sign   string = "absolute"   one of absolute, positive, negative: |w|, w+ or -w-
//   seed   int = 1
// columns
//   layer        string
//   index        int
//   neuron       int      id within the network
//   community    int
CALL () {
  CALL gds.graph.list() YIELD graphName AS left, creationTime AS made
  WHERE left STARTS WITH 'cntgraph ' AND made < datetime() - duration('PT10M')
  CALL gds.graph.drop(left, false) YIELD graphName
  RETURN count(*) AS dropped
}
MATCH (:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (s:NeuronState {run: $run, epoch: $epoch})
OPTIONAL MATCH (s)-[k:LINK|CARRIES]->(t:NeuronState)
WHERE coalesce(k.kind, 'weight') <> 'data'
  AND ($sign = 'absolute' OR k.weight * CASE $sign WHEN 'positive' THEN 1 ELSE -1 END > 0)
WITH gds.graph.project('cntgraph ' + randomUUID(), s, t,
     {relationshipProperties: {weight: abs(coalesce(k.weight, 0.0))}},
     {undirectedRelationshipTypes: ['*']}) AS g
WHERE g.nodeCount > 0
CALL gds.leiden.stream(g.graphName, {relationshipWeightProperty: 'weight', randomSeed: $seed,
     concurrency: 1}) YIELD nodeId, communityId
WITH g.graphName AS graph, gds.util.asNode(nodeId) AS n, communityId AS value
ORDER BY n.neuron
WITH graph, collect({layer: n.layer, index: n.index, neuron: n.neuron, value: value}) AS rows
CALL gds.graph.drop(graph, false) YIELD graphName
UNWIND rows AS row
RETURN row.layer AS layer, row.index AS index, row.neuron AS neuron, row.value AS community
