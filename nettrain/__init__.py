"""Training neural networks: every algorithm of the book, written to be read beside its equation.

optimizers      the update rules                 adapter     a rule as a torch.optim.Optimizer
schedules       t -> learning rate               training    one run: a plain, seeded loop
clipping        by value, by norm                sweep       many runs at once
regularization  penalties, early stopping, ...   models      small networks
regularization  dropout, soft labels             models      small networks
augmentation    random changes of images
draws           random numbers of a key          data        data sets with fixed splits
misprints       the sources' wrong forms         figures     how the book draws
probes          what a rule does to a gradient   evidence    how a claim becomes a verdict
initializers    a shape -> initial weights
preprocessing   scaling and whitening of data
normalization   layers that normalize
landscape       loss surfaces, curvature
recording       a function as a list of operations
architecture    search for networks, rules, activations
blocks          parts of architectures, their cost
activations     Maxout, an activation's moments
losses          squared, Brier, hinge
spaces          search spaces
search          hyperparameter search
bayesian        Gaussian process, acquisition, Bayes
spaces          search spaces
search          hyperparameter search
losses          squared, Brier, hinge

Letters: θ parameters, g gradient, η learning rate `lr`, t number of the step (1, 2, ...), ρ β₁ β₂
decay rates, ε `eps`. Shapes: n examples, d features, K batch size, R runs, P parameters.
"""

__version__ = "0.1.0"
