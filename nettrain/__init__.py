"""Training neural networks: every algorithm of the book, written to be read beside its equation.

Algorithms
optimizers      the update rules                 preprocessing   scaling and whitening of data
schedules       t -> learning rate               augmentation    random changes of images
clipping        by value, by norm                spaces          search spaces
initializers    a shape -> initial weights       search          hyperparameter search
normalization   layers that normalize            bayesian        Gaussian process, acquisition
regularization  penalties, dropout, labels       architecture    networks, rules, activations sought
activations     Maxout, an activation's moments  landscape       loss surfaces, curvature
losses          squared, Brier, hinge            probes          what a rule does to a gradient
blocks          parts of architectures           misprints       the sources' wrong forms
draws           random numbers of a key          precision       statistics of numbers of any size

Joints
adapter         a rule as a torch optimizer      data            data sets with fixed splits
training        one run: a plain, seeded loop    figures         how the book draws
sweep           many runs at once                evidence        how a claim becomes a verdict
models          small networks                   recording       a function as a list of operations

Letters: θ parameters, g gradient, η learning rate `lr`, t number of the step (1, 2, ...), ρ β₁ β₂
decay rates, ε `eps`. Shapes: n examples, d features, K batch size, R runs, P parameters.
"""

__version__ = "0.1.0"
