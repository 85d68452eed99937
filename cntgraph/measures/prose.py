"""What the page of measures says before it tells of each: conventions, and how not to be misled.

What stands between braces is filled in by the page.
"""

__all__ = ["INTRODUCTION"]

INTRODUCTION = """\
# Measures

`cnt.measure(network, *names)` gives a table with a column for each name, `cnt.measure(run, ...)`
the same for every epoch, `cntgraph measure RUN NAME...` prints it, and `cnt.measures()` lists all
there are. This page is written from the same declarations
(`python -m cntgraph.measures.page`), and a test compares the two.

## Which links, which sign, which length

A network is layers of neurons and blocks of links. A link has a weight and a kind: trained ones
are of kind `weight`; those that only carry values on (skip connections, pooling, norms) are
`identity`, `fixed`, `scale` and `select`.

- **What is summed at a neuron** (strength, disparity, degree, clustering, communities) takes the
  trained links alone.
- **What follows paths** (PageRank, Katz, path score, flow, distances) takes those that carry values
  too, else a pooling or a skip connection would cut the network in two. Identity, fixed and scale
  links count with their weight, select links (a maximum) with 1.
- `kinds=` says otherwise, and `network.to_igraph(kinds=...)` gives the same graph. Parallel links
  stay links of their own, as in igraph. A link of weight zero is a link: it has a degree, and no
  path leads over it.

`sign=` says what becomes of the sign of a weight: `absolute` takes |w|, `signed` w itself,
`positive` max(w, 0) and `negative` max(-w, 0). Every measure declares which of these it can take,
the first of them is what it does unasked, and nothing is made absolute in silence. igraph gives
numbers without a warning for some measures of signed weights that mean nothing there: here the
convention is refused.

`length=` says how long a link is where distances matter. A weight is an affinity: the stronger a
link, the nearer are its neurons. So the length is `inverse`, 1/|w| (Newman 2001; Opsahl and others
2010), or `log`, -log(|w| / max |w|), by which a path is the shorter the larger the product of its
weights is; the maximum is that of **all** epochs of a run, or two epochs would have two units.
`weight` takes |w| itself and `unit` 1. A weight of zero is infinitely long. igraph, NetworkX and
Neo4j's GDS all read a weight as a length: they are to be handed 1/|w|.

Strength and the table of layers know two **named conventions**. `plain` counts trained weights
only and equals igraph's strength of the explicit graph. `paper` is that of the published figures of
La Malfa, La Malfa, Nicosia and Latora: a bias is one more link into its neuron, and every input and
output neuron has one more link of weight 1 to nowhere.

Sums are taken in float64 whatever the type of the weights, and a weight that is NaN makes NaN what
it enters, never 0.

## What strength is worth

La Malfa and others (2021, 2022) read from strength and its fluctuation Y over a layer how well a
network has learnt. On digits of MNIST that holds in part
([benchmarks/populations.md](../benchmarks/populations.md): `python benchmarks/populations.py`, 30
networks of each kind; Spearman's correlation with accuracy over the hidden layers of an MLP):

- Y separates accurate networks from under-trained ones where the initial weights are small: 0.92 to
  0.98 with PyTorch's own or a uniform distribution up to 0.05. In the output layer it does so less
  (0.13 and 0.70).
- It does not where they are large: -0.02 and 0.39 with a normal distribution of deviation 0.5.
- The plain standard deviation of the weights separates as well or better (0.98 and more), and so
  does the number of steps, which no weight had to be read for.

`cnt.open_population(folder).correlations()` says how it is with networks of your own; the second
notebook does so with a population that it trains.

So initialisations are not pooled, values are read relative to epoch 0, and the weight deviation and
the number of steps stand beside a measure as baselines. Strength is not the better predictor of
accuracy. What it says and a deviation cannot is **which** neurons; and what Y says beyond the
weights themselves is its excess over a null model, `cnt.layers(network, shuffles=20)`: the same
weights dealt out anew within each block. In the networks above that reached 85 % the first hidden
layer lies far above that null (four times in the MLPs, two to three in the convolutional ones); the
output layer lies below it in the MLPs (0.75 to 0.79, a standard deviation) and above it in the
convolutional ones. `cnt.null_model(network, kind)` hands out such networks (weights shuffled, signs
shuffled, strengths kept) for any other measure.

A measure of |w| often follows absolute strength so closely that it picks the same neurons:
`cnt.compare(run)` and `cntgraph compare RUN` show the correlation by layer and epoch, which is
worth a look before a finding is told.

## The gauge

A ReLU neuron's incoming weights and bias may be multiplied by any a > 0 and its outgoing weights
divided by it, and the network computes what it did. Strength, and nearly every measure on this
page, changes. Two ways out: `cnt.balanced(network)` is the one of all these networks in which every
hidden neuron's incoming and outgoing weights have equal norm, so that what is measured of it
belongs to the function; and `path_score` does not change, for every path through a neuron enters
by one of its weights and leaves by another, and their product is what it was.

## What says nothing

In a full layered network each neuron is linked to all of the next layer and to no other. So these
are settled by the architecture before anything is trained, and asking for them raises
`DegenerateMeasure` with the reason and an alternative:

- degree, k-core, density and everything counted in links rather than weight: one value per layer;
- triangles and every clustering made of them: 0, because a link joins two layers and only a skip
  connection closes a third side. Squares are the smallest circles there are: `square_clustering`;
- reciprocity, strong components, directed eigenvector centrality: no link leads back, the weight
  matrix is nilpotent and everything ends in the last layer;
- HITS of the whole graph: all of it sits in the one block with the largest singular value, so it is
  done block by block;
- small-world sigma: a quotient of two of the above.

The graph decides, not the kind of model: after a filter (`network.filtered("top:8")`, the disparity
backbone `"backbone:0.05"`), or with skip connections, the same measure may say something and is
given. A filter keeps a share of the total weight, which is `.kept` and belongs beside the result.

Over a run a measure may say something at some epochs only: `cnt.measure(run, ...)` has NaN at the
others and warns. What is stored at export follows the same rule from the second epoch on; at the
first one it is refused before anything is written, for a run should not be filled with nothing.

## Other people's conventions

Scabini and Bruno (2023) measured fully connected networks too and published their values. A test
reproduces all their columns from the graphs that `to_scipy()`, `to_networkx()` and `to_igraph()`
hand out. Their numbers are not ours, on purpose:

- They take the undirected graph and its hidden neurons; here links have a direction and every
  neuron has a value.
- They take weights with their sign for strength, the mean degree of neighbours and current-flow
  closeness, and for everything else the positive links alone; here every measure declares its sign.
- For them a link is as long as its weight is large (length = w), so a strong link is a far one;
  here its length is 1/|w| and a strong link is a near one.
- Their neighbours count by degree, which a full network fixes, weighted by the signed weight of the
  link and divided by a strength that may be near zero; `neighbour_strength` is the mean strength of
  the neighbours, weighted by |w|.

The length matters most. With length = w a shortest path seeks out the weakest links, and central
is who has many of them. On the last epoch of their first network the two lengths order the hidden
neurons without any relation: Spearman's correlation of the two harmonic centralities (undirected,
positive links) is 0.04 and -0.05 in the two layers. With 1/w it follows the positive strength of a
neuron (0.89 and 0.79), with w it does not (0.05 and -0.02). `length="weight"` gives theirs where it
is wanted.

## Costs, and samples

Every measure knows what it will cost: `cntgraph measure RUN NAME --plan` prints links, seconds and
bytes and computes nothing. What would take more than an hour is refused before it starts, `hours=`
says otherwise. Measures that sum or sweep list no link, so networks of a billion links are fine;
those that follow shortest paths from every neuron grow with neurons x links. For
{sampled}
there is `samples=500`: so many neurons, drawn with `seed`, stand for all, and a column `NAME_error`
beside each estimate has half the width of its 95 % interval.

`network.by_channel()` and `network.filtered(...)` are smaller networks, and other ones: what is
measured of them is theirs.

## The pictures

All show one network of 4 - 5 - 4 - 3 neurons with fixed weights: links blue where w > 0 and red
where w < 0, the thicker the larger |w|. The area of a neuron is the size of its value, hollow where
it is negative; a pair of layers has a band, red where its value is negative; a network has one
number. Values are those of `cnt.measure`.
"""
