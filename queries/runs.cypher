// The runs in the database
//
// epochs counts the complete ones; neurons and links (trained weights) are those of the network,
// loaded counts the links in the database over all complete epochs. The status is complete if every
// epoch that was begun is.
//
// parameters
// columns
//   name     string
//   epochs   int
//   neurons  int
//   links    int
//   loaded   int
//   status   string
MATCH (r:Run)
OPTIONAL MATCH (r)-[:HAS_SNAPSHOT]->(x:Snapshot)
WITH r, collect(x) AS snapshots
WITH r, snapshots, [x IN snapshots WHERE x.status = 'complete'] AS complete
RETURN r.name AS name, size(complete) AS epochs, r.neurons AS neurons, r.links AS links,
       reduce(sum = 0, x IN complete | sum + x.links) AS loaded,
       CASE WHEN r.status = 'complete' AND size(complete) = size(snapshots)
            THEN 'complete' ELSE 'loading' END AS status
ORDER BY name
