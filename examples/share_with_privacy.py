"""Generate a set to give away, and write it with its privacy report only if no test fails.

python examples/share_with_privacy.py sets/clinic runs/clinic shared/clinic
"""

import argparse
from pathlib import Path

import ecgtransfer as et
from ecgtransfer.export import export_wfdb
from ecgtransfer.pipeline import PrivacySettings


def main(clinic, folder, to, source="ptbxl-cascade", transfer=None, privacy=None, **generate):
    """Verdicts of the privacy question; the set is in `to` if the first of them passed."""
    adapted = et.load(source).transfer(clinic, folder=folder, **(transfer or {}))
    generated = adapted.generate(name="shared", **(generate or {"ratio": 4}))
    (answer,) = adapted.evaluate(privacy or PrivacySettings(name="shared"))
    sentences = [verdict.sentence for verdict in (*answer.verdicts, *answer.tests)]
    if answer.verdicts[0].passed:
        export_wfdb(generated, to)
        report = Path(to).with_name(f"{Path(to).name}-privacy.txt")
        report.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    return sentences


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clinic", help="prepared set of a clinic")
    parser.add_argument("folder", help="run folder")
    parser.add_argument("to", help="folder of the records to give away")
    given = parser.parse_args()
    print("\n".join(main(given.clinic, given.folder, given.to)))
