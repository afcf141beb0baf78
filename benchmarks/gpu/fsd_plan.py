"""The options that the distillation measurement has beside those of every part."""

import argparse
from dataclasses import dataclass

from benchmarks.gpu import fsd_run
from benchmarks.gpu.fsd_run import KINDS, Recipe


@dataclass(frozen=True)
class Plan:
    """The options of this part alone, see ``plan_of``."""

    starts: list[str]
    batch: int
    steps: int
    patience: float
    seed: int
    graph: bool
    only: list[str]
    recipe: Recipe


def plan_of(argv: list[str]) -> tuple[Plan, list[str]]:
    """Read this part's own options; return the rest of the command line too."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--starts", nargs="+", default=list(fsd_run.STARTS), choices=fsd_run.STARTS)
    own.add_argument("--batch", type=int, default=32)
    own.add_argument("--steps", type=int, default=0, help="0: as many as the time allows")
    own.add_argument("--patience", type=float, default=0.3)
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--no-graph", action="store_true")
    own.add_argument("--kinds", nargs="+", default=[], help="names; default: all")
    own.add_argument("--lr", type=float, default=1e-3)
    own.add_argument("--beta2", type=float, default=0.999)
    own.add_argument("--warmup", type=int, default=100)
    own.add_argument("--fp32", action="store_true")
    own.add_argument("--compile", action="store_true")
    given, rest = own.parse_known_args(argv)
    tiny, cpu = "--tiny" in rest, "cpu" in rest
    least = tiny and cpu  # a network of one block, one person a step, the five shipped kinds
    shipped = [kind.name for kind in KINDS if not kind.detached]
    recipe = Recipe(
        given.lr,
        given.beta2,
        given.warmup,
        not (given.fp32 or least),
        given.compile,
        1 if least else None,
    )
    batch, steps = (1, 2) if least else (given.batch, given.steps or (20 if tiny else 0))
    plan = Plan(
        given.starts,
        batch,
        steps,
        given.patience,
        given.seed,
        not (given.no_graph or cpu),
        given.kinds or (shipped if least else []),
        recipe,
    )
    return plan, rest
