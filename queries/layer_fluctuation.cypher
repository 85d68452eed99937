// The fluctuation of every layer at every epoch
//
// Fluctuation is the standard deviation (ddof 0) of the strengths of a layer's neurons; weight_std
// is that of the trained weights into the layer, the baseline to read it against.
//
// parameters
//   run     string    name of the run
// columns
//   epoch          int
//   layer          string
//   fluctuation    float
//   weight_std     float
//   strength_mean  float
//   weight_mean    float
MATCH (x:Snapshot {run: $run, status: 'complete'})
MATCH (s:LayerState {run: $run, epoch: x.epoch})
MATCH (l:Layer)-[:HAS_STATE]->(s)
RETURN x.epoch AS epoch, l.name AS layer, s.fluctuation AS fluctuation,
       s.weight_std AS weight_std, s.strength_mean AS strength_mean, s.weight_mean AS weight_mean
ORDER BY epoch, l.index
