// Where the fluctuation of a layer exceeds that of shuffled weights
//
// The null is the mean fluctuation of networks whose weights were shuffled within each block; z
// counts the deviations of the null that the fluctuation lies above it. A run has these if it was
// exported with shuffles; layers whose fluctuation no shuffle changes have no z.
//
// parameters
//   run     string          name of the run
//   above   float = null    only where z is larger
// columns
//   epoch        int
//   layer        string
//   fluctuation  float
//   null         float
//   excess       float     fluctuation / null
//   z            float
MATCH (x:Snapshot {run: $run, status: 'complete'})
MATCH (s:LayerState {run: $run, epoch: x.epoch})
WHERE s.fluctuation_null IS NOT NULL AND ($above IS NULL OR s.fluctuation_z > $above)
MATCH (l:Layer)-[:HAS_STATE]->(s)
RETURN x.epoch AS epoch, l.name AS layer, s.fluctuation AS fluctuation,
       s.fluctuation_null AS `null`, s.fluctuation_excess AS excess, s.fluctuation_z AS z
ORDER BY epoch, l.index
