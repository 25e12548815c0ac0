"""Run inside the MLServer environment: a model of each framework on the same seeded data, and its answers.

Writes into the folder given: sklearn.joblib, xgboost.json, lightgbm.txt, and answers.npz with `x` and one array per framework.
"""

import sys
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import xgboost
from sklearn.ensemble import RandomForestClassifier

folder = Path(sys.argv[1])
random = np.random.default_rng(3)
x = random.normal(size=(200, 5))
y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)
asked = random.normal(size=(7, 5))

forest = RandomForestClassifier(n_estimators=20, random_state=0).fit(x, y)
joblib.dump(forest, folder / "sklearn.joblib")
boosted = xgboost.XGBRegressor(n_estimators=20, random_state=0).fit(x, y)
boosted.save_model(folder / "xgboost.json")
light = lightgbm.train({"objective": "binary", "verbose": -1, "seed": 0}, lightgbm.Dataset(x, y), num_boost_round=20)
light.save_model(folder / "lightgbm.txt")
np.savez(
    folder / "answers.npz",
    x=asked,
    sklearn=forest.predict(asked),
    xgboost=boosted.predict(asked),
    lightgbm=light.predict(asked),
)
