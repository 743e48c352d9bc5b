"""Experiments: transfer methods on Gaussian mixtures, whose true target is known."""

from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.mixtures import run_study
from ecgtransfer.experiments.problems import PROBLEMS, Problem, problem
from ecgtransfer.experiments.scores import ScoreBoard, Scores
from ecgtransfer.experiments.study import FULL, QUICK, Study, StudySettings
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
