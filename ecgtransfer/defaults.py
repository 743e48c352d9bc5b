"""Choices and default values that the command line states in its help.

They stand apart from the settings that use them, so that help does not import networks.
"""

from typing import Literal, TypeAlias

#: Records of a tar shard: 26 MB at 100 Hz and 10 s.
SHARD_RECORDS = 1000

#: How records are drawn where nothing else is asked for (docs/experiments.md, "how to draw").
RECORD_SOLVER, RECORD_STEPS = "adams", 12
#: Scale of classifier-free guidance; 1 is the model as it was trained.
LABEL_SCALE = 1.0

#: How a target is split into training and test records, see `corpus.protocol_splits`.
SplitProtocol: TypeAlias = Literal["paper", "standard", "cross-validation", "split"]

#: Transfer methods, with a few words on each: names and titles of `transfer.methods.METHODS`.
TRANSFER_METHODS = {
    "tgdp": "guidance by the density ratio",
    "stack": "tgdp and finetune, combined",
    "finetune": "full fine-tuning",
    "lora": "LoRA: low-rank updates",
    "difffit": "DiffFit: biases and scales",
    "scratch": "target records only",
    "source": "unchanged source model",
}

#: Groups of arms beside "target only" and the synthetic sets at each ratio, see `default_arms`.
ARMS = ("oversampled", "augmented", "source", "every-baseline", "synthetic-only", "control")
#: Trainings of each arm of the utility study.
UTILITY_SEEDS = 5
#: Training steps of a classifier, and parts of the cross-fitting behind its thresholds.
CLASSIFIER_STEPS, CLASSIFIER_FOLDS = 300, 3
#: Records of a cohort that are compared at most; more change the third digit and cost memory.
LARGEST_COHORT = 2000
#: ECGs of each kind in a blind test: with 50, a set that no one can tell apart is called so in
#: 85 % of readings, with 20 in 42 %.
BLIND_RECORDS = 50
#: Layout of an ECG on paper.
PAPER_LAYOUT = "3x4"
