// An epoch as a graph of Graph Data Science, under a name
//
// For Neo4j Browser and the graphdatascience client: it stays in the server's memory until
// CALL gds.graph.drop(NAME) or the end of the server. Weights are in the property weight. Graph Data
// Science ignores negative weights, so |w|, w+ and -w- are graphs of their own; Leiden and others
// ask for undirected links.
//
// parameters
//   run         string               name of the run
//   epoch       int
//   graph       string               the name it gets
//   sign        string = "absolute"  one of absolute, positive, negative: |w|, w+ or -w-
//   carrying    boolean = false      with links that carry a value: skips, pooling
//   undirected  boolean = false
// columns
//   graph    string
//   neurons  int
//   links    int
MATCH (:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (s:NeuronState {run: $run, epoch: $epoch})
OPTIONAL MATCH (s)-[k:LINK|CARRIES]->(t:NeuronState)
WHERE (k:LINK OR ($carrying AND k.kind <> 'data'))
  AND ($sign = 'absolute' OR k.weight * CASE $sign WHEN 'positive' THEN 1 ELSE -1 END > 0)
WITH gds.graph.project($graph, s, t,
     {relationshipProperties: {weight: abs(coalesce(k.weight, 0.0))}},
     {undirectedRelationshipTypes: CASE WHEN $undirected THEN ['*'] ELSE [] END}) AS g
WHERE g.nodeCount > 0
RETURN g.graphName AS graph, g.nodeCount AS neurons, g.relationshipCount AS links
