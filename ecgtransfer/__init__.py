"""Transfer of diffusion models of 12-lead ECGs from a large source to a small labelled target.

One vocabulary, in code, tests, command line and documents:

    x0          clean signal in model units, 8 independent leads               (B, 8, T)
    x           noised signal, x = x0 + sigma * noise                          (B, 8, T)
    sigma       noise level                                                    (B,)
    label       multi-hot diagnosis in the run's label space                   (B, K)
    denoised    D(x; sigma, label), estimate of E[x0 given x]                  (B, 8, T)
    log_ratio   log r(x0, y) = log q(x0, y) / p(x0, y), target over source     (B,)
    log_h       log h(x, sigma, y), h = E_p[r given x, sigma, y] = q_sigma / p_sigma   (B,)
    signals_mv  physical signal in millivolts, 12 leads in the order of LEADS  (N, 12, T)
    source      the large data set, distribution p; target: the small one, distribution q
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.corpus import (
        ECGSet,
        LabelSpace,
        label_space,
    )
    from ecgtransfer.diffusion import (
        DiffusionModel,
        karras_sigmas,
        sample,
    )
    from ecgtransfer.drawing import (
        plot,
    )
    from ecgtransfer.evaluation import (
        challenge_scores,
        frechet_distance,
        macro_auroc,
        prdc,
    )
    from ecgtransfer.pipeline import (
        AdaptedModel,
        SourceModel,
        load,
    )
    from ecgtransfer.signals import (
        LEADS,
        Recording,
        expand_leads,
        independent_leads,
        read_recording,
        write_recording,
    )
    from ecgtransfer.simulation import (
        simulate,
    )
    from ecgtransfer.transfer import (
        consistency_loss,
        cycle_loss,
        guidance_loss,
        log_density_ratio,
    )

    # Of its own module, whose name it shares: type checkers take the other for that module.
    from ecgtransfer.transfer.guided import guided
else:
    __getattr__, __dir__ = lazy_names(__name__)

__version__ = version("ecgtransfer")

__all__ = [
    "LEADS",
    "AdaptedModel",
    "DiffusionModel",
    "ECGSet",
    "LabelSpace",
    "Recording",
    "SourceModel",
    "challenge_scores",
    "consistency_loss",
    "cycle_loss",
    "expand_leads",
    "frechet_distance",
    "guidance_loss",
    "guided",
    "independent_leads",
    "karras_sigmas",
    "label_space",
    "load",
    "log_density_ratio",
    "macro_auroc",
    "plot",
    "prdc",
    "read_recording",
    "sample",
    "simulate",
    "write_recording",
]
