"""Compare transfer methods on one split of a clinic's set.

The denoising loss is that of held-out training patients, lower is better; test patients take no
part, so that they remain for the method that you choose. Every method sees the same noise.

python examples/compare_methods.py sets/clinic runs/clinic --method tgdp --method finetune
"""

import argparse

import ecgtransfer as et

METHODS = ("source", "tgdp", "finetune", "lora")


def main(clinic, folder, methods=METHODS, source="ptbxl-cascade", settings=lambda method: None):
    """Held-out denoising loss and trained parameters of each method."""
    clinic, model = et.ECGSet.open(clinic), et.load(source)
    results = {}
    for method in methods:
        adapted = model.transfer(clinic, folder=folder, method=method, settings=settings(method))
        results[method] = adapted.summary
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clinic", help="prepared set of a clinic")
    parser.add_argument("folder", help="run folder")
    parser.add_argument("--method", action="append", help="transfer method, repeatable")
    given = parser.parse_args()
    for method, summary in main(given.clinic, given.folder, given.method or METHODS).items():
        print(
            f"{method:<10} held-out loss {summary.held_out_loss:.4f} "
            f"(source {summary.source_loss:.4f}), {summary.trained_parameters:,} parameters, "
            f"{summary.seconds / 60:.0f} minutes"
        )
