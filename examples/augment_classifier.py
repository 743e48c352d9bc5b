"""Train classifiers on recorded ECGs alone, and on recorded and synthetic ones together.

python examples/augment_classifier.py sets/clinic runs/clinic
"""

import argparse

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.preprocessing import StandardScaler

import ecgtransfer as et


def spectra(X):
    """Log power of each lead in eight bands of frequency: (n, 96)."""
    power = np.abs(np.fft.rfft(X - X.mean(axis=2, keepdims=True), axis=2))[:, :, 1:401] ** 2
    return np.log(power.reshape(len(X), 12, 8, -1).mean(axis=3) + 1e-6).reshape(len(X), -1)


def scikit_learn(X, y, weight, X_test):
    """Probabilities by a logistic regression for each label."""
    scaler = StandardScaler().fit(spectra(X))
    model = MultiOutputClassifier(LogisticRegression(max_iter=1000, C=0.1))
    model.fit(scaler.transform(spectra(X)), y, sample_weight=weight)
    chosen = model.predict_proba(scaler.transform(spectra(X_test)))
    return np.stack([probability[:, 1] for probability in chosen], axis=1)


def pytorch(X, y, weight, X_test, steps=300):
    """Probabilities by a small convolutional network."""
    torch.manual_seed(0)
    width = 32
    network = torch.nn.Sequential(
        torch.nn.Conv1d(12, width, 15, stride=4),
        torch.nn.ReLU(),
        torch.nn.Conv1d(width, width, 15, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveMaxPool1d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(width, y.shape[1]),
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        # Records are drawn by weight: synthetic ones fill at most half of a batch.
        index = rng.choice(len(X), 32, p=weight / weight.sum())
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            network(torch.from_numpy(X[index])), torch.from_numpy(y[index])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return network(torch.from_numpy(X_test)).sigmoid().numpy()


def main(clinic, folder, source="ptbxl-cascade", transfer=None, augment=None, steps=300):
    """Macro AUROC on test patients, by classifier and training set."""
    clinic = et.ECGSet.open(clinic)
    adapted = et.load(source).transfer(clinic, folder=folder, **(transfer or {}))
    X, y, groups, weight = adapted.augment(clinic, **(augment or {"balance": True}))
    test = adapted.test()
    assert not set(groups) & set(test.groups)
    # Labels that both sides have, so that each can be learned and scored.
    alone = np.arange(len(X)) < adapted.summary.target_records
    columns = np.flatnonzero((y[alone].min(axis=0) == 0) & (y[alone].max(axis=0) == 1))
    y, y_test = y[:, columns], test.y[:, columns]
    scores = {}
    for name, train in (
        ("scikit-learn", scikit_learn),
        ("torch", lambda *given: pytorch(*given, steps=steps)),
    ):
        for records, rows in (("recorded", alone), ("with synthetic", np.ones(len(X), bool))):
            score = train(X[rows], y[rows], weight[rows], test.X)
            scores[f"{name}, {records}"] = et.macro_auroc(y_test, score)
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clinic", help="prepared set of a clinic")
    parser.add_argument("folder", help="run folder")
    given = parser.parse_args()
    for name, auroc in main(given.clinic, given.folder).items():
        print(f"{name:<28} macro AUROC {auroc:.3f}")
