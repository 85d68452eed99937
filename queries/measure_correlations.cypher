// How closely each stored measure follows strength, layer by layer
//
// Pearson's correlation over the neurons of a layer, with the strength and with the sum of the
// sizes of the weights (strength_absolute); null where either is the same for all.
//
// parameters
//   run     string    name of the run
//   epoch   int
// columns
//   layer          string
//   measure        string
//   neurons        int       that have both
//   with_strength  float
//   with_absolute  float
MATCH (x:Snapshot {run: $run, epoch: $epoch, status: 'complete'})
MATCH (:Run {name: $run})-[:HAS_LAYER]->(l:Layer)
UNWIND x.measures AS measure
MATCH (n:NeuronState)
WHERE n.run = $run AND n.epoch = $epoch AND n.layer = l.name AND n.magnitude IS NOT NULL
  AND n[measure] IS NOT NULL
WITH l, measure, collect(n) AS neurons, avg(n[measure]) AS m, avg(n.strength) AS s,
     avg(n.strength_absolute) AS a
UNWIND neurons AS n
WITH l, measure, count(n) AS neurons, sum((n[measure] - m) ^ 2) AS mm,
     sum((n.strength - s) ^ 2) AS ss, sum((n.strength_absolute - a) ^ 2) AS aa,
     sum((n[measure] - m) * (n.strength - s)) AS ms,
     sum((n[measure] - m) * (n.strength_absolute - a)) AS ma
RETURN l.name AS layer, measure, neurons,
       CASE WHEN mm * ss > 0 THEN ms / sqrt(mm) / sqrt(ss) END AS with_strength,
       CASE WHEN mm * aa > 0 THEN ma / sqrt(mm) / sqrt(aa) END AS with_absolute
ORDER BY l.index, measure
