"""Run inside the environment of an older scikit-learn: its estimators on seeded data, pickled into the folder given."""

import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

folder = Path(sys.argv[1])
random = np.random.default_rng(3)
x = random.normal(size=(200, 4)).astype(np.float32)
y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)
table = pd.DataFrame({"age": x[:, 0], "city": np.array(["Bern", "Oslo", "Rome"])[random.integers(0, 3, 200)]})
texts = np.array(["good film", "bad film", "a good day", "no good at all", "bad, bad weather"])

models = {
    "logistic": LogisticRegression().fit(x, y),
    "forest": make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=10, random_state=0)).fit(x, y),
    "boosted": GradientBoostingRegressor(n_estimators=10, random_state=0).fit(x, y + x[:, 3]),
    "neighbours": KNeighborsClassifier().fit(x, y),
    "network": MLPRegressor(hidden_layer_sizes=(8,), max_iter=50, random_state=0).fit(x, y),
    "vectors": SVC(probability=True, random_state=0).fit(x, y),
    "table": make_pipeline(
        ColumnTransformer([("number", StandardScaler(), ["age"]), ("name", OneHotEncoder(), ["city"])]), LogisticRegression()
    ).fit(table, y),
    "texts": make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0, 0]),
    "histogram": HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(x, y),
}
for name, model in models.items():
    joblib.dump(model, folder / f"{name}.joblib")
