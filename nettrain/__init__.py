"""Training neural networks: every algorithm of the book, written to be read beside its equation.

What lectures show: algorithms, each beside its equation
optimizers      the update rules                 activations     Maxout, an activation's moments
schedules       t -> learning rate               losses          cross-entropy, squared, hinge, ...
clipping        by value, by norm                blocks          parts of architectures
initializers    a shape -> initial weights       models          small networks
preprocessing   scaling and whitening of data    probes          what a rule does to a gradient
normalization   layers that normalize            landscape       loss surfaces, curvature
penalties       on the size of weights           counterexamples where a rule or a sentence fails
stopping        when to stop early               misprints       the sources' wrong forms
dropout         units left out at random         spaces          search spaces
labels          smoothed, distilled              searchers       what proposes a configuration
augmentation    random changes of images         trials          one configuration, evaluated
draws           random numbers of a key          budgets         how much training each one gets
precision       statistics of any numbers        importance      which hyperparameters matter
checks          what a number may be             bayesian        Gaussian process, acquisition
data            data sets with fixed splits      nas             networks and rules, searched for
matrix_rules    update rules that see a matrix   replays         searches on recorded curves
averaging       at which weights to evaluate     contenders      Lion, Prodigy, SAM
groups          rates and rules per tensor, muP  resampling      each run its own examples

lab: what trains and judges; it imports the algorithms, never the other way round
training        one run: a plain, seeded loop    study           a search that remembers
sweep           many runs at once                adapter         a rule as a torch optimizer
protocol        tune alike, judge on new seeds   recording       a function as a list of operations
evidence        a claim, judged by its seeds     figures         how the book draws
pooling         many bases, one verdict          moving          figures behind a slider
replications    what all bases say               cards           claims and verdicts in words
applying        a rule on a model's tensors      fusing          a rule as one loop
workloads       the problems for general claims  forest          effects beside margins, drawn

Letters: θ parameters, g gradient, η learning rate `lr`, t number of the step (1, 2, ...), ρ β₁ β₂
decay rates, ε `eps`. Shapes: n examples, d features, K batch size, R runs, P parameters.
"""

__version__ = "0.1.0"
