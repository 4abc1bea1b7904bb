"""What a step costs with each of the newer rules, beside Adam's, in a sweep of a workload."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.machine import line, seconds
from nettrain import averaging, contenders, groups, matrix_rules
from nettrain.lab.sweep import Sweep
from nettrain.lab.workloads import WORKLOADS
from nettrain.optimizers import adam, adamw, sgd

RUNS = 16  # a method's seeds
STEPS = 5
NAMES = ("digits", "text")


def rules(model: Callable) -> dict[str, dict]:
    """name -> arguments of a sweep; muP as if the widths had grown fourfold."""
    base = {
        k: [-(-n // 4) if n > 10 else n for n in p.shape] for k, p in model().named_parameters()
    }
    both = lambda *of: groups.mup_adam(base)(*of) | groups.weights_only(*of)
    started = groups.initial(model, groups.mup_initial(base))
    return {
        "adam": {"rule": adam},
        "lion": {"rule": contenders.lion},
        "prodigy": {"rule": contenders.prodigy},
        "sam": {"rule": sgd, "gradient": partial(contenders.sam, rho=0.05)},
        "schedule-free SGD": {"rule": averaging.schedule_free_sgd},
        "schedule-free AdamW": {"rule": averaging.schedule_free_adamw},
        "adam, EMA": {"rule": averaging.ema(adam, 0.99)},
        "adam, LAWA of 6": {"rule": averaging.lawa(adam, 10, 6)},
        "adam, SWA": {"rule": averaging.swa(adam, 10, 100)},
        "adamw by muP": {"rule": adamw, "by": both, "model": started},
        "sgd by muP": {"rule": sgd, "by": groups.mup_sgd(base), "model": started},
        "muon": {"rule": groups.partition(matrix_rules.muon, adamw)},
        "shampoo": {"rule": groups.partition(matrix_rules.shampoo, adamw)},
        "soap": {"rule": groups.partition(matrix_rules.soap, adamw)},
    }


def run(device: torch.device) -> Iterator[dict]:
    """Microseconds of a step of one of RUNS runs, and how many times Adam's that is."""
    for name in NAMES:
        some, adams = WORKLOADS[name](), None
        own = some.how()
        del own["steps"]
        for rule, how in rules(some.model).items():
            work = Sweep(**own | how)
            runs, _ = work.advance(work.start(range(RUNS), lr=1e-4), 1)
            each = 1e6 * seconds(partial(work.advance, runs, STEPS)) / RUNS / STEPS
            adams = adams or each
            row = {"workload": name, "rule": rule, "runs": RUNS, "batch": some.batch}
            row |= {"microseconds": each, "times Adam's": each / adams}
            print(line(row), flush=True)
            yield row
