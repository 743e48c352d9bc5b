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
    source      the large data set, law p; target: the small one, law q
"""

from importlib.metadata import version

__version__ = version("ecgtransfer")
