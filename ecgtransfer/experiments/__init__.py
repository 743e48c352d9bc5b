"""Experiments: the methods of transfer, judged where the truth is known in closed form."""

from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.mixtures import FULL, QUICK, Study, StudySettings, run_study
from ecgtransfer.experiments.problems import PROBLEMS, Problem, problem
from ecgtransfer.experiments.scores import ScoreBoard, Scores
from ecgtransfer.experiments.transfer_methods import METHODS

__all__ = [
    "FULL",
    "METHODS",
    "PROBLEMS",
    "QUICK",
    "GaussianMixture",
    "Problem",
    "ScoreBoard",
    "Scores",
    "Study",
    "StudySettings",
    "problem",
    "run_study",
]
