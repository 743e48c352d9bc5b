"""Experiments: the methods of transfer, judged where the truth is known in closed form."""

from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.problems import PROBLEMS, Problem, problem

__all__ = ["PROBLEMS", "GaussianMixture", "Problem", "problem"]
