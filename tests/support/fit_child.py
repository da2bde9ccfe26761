"""Train a model in a run folder and leave its samples: run by one process or by several."""

import sys

import numpy as np

import pushforward as pf

if __name__ == "__main__":
    out, settings = sys.argv[1], pf.TrainingSettings(steps=12, batch_size=10, learning_rate=0.01)
    X = np.random.default_rng(0).normal(size=(64, 2))
    model = pf.FlowMatching(
        network=pf.MLPSpec(width=8, depth=1), training=settings, random_state=int(sys.argv[2]) if len(sys.argv) > 2 else None
    )
    pf.train(X, model, out=out)
