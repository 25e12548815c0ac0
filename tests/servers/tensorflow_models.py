"""Run inside the TensorFlow environment: SavedModels for the export tests, written into the folder given."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

folder = Path(sys.argv[1])
tf.keras.utils.set_random_seed(0)


class Several(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "b"), tf.TensorSpec([None], tf.int64, "a")])
    def served(self, b, a):
        return {"sum": tf.reduce_sum(b, 1) + tf.cast(a, tf.float32), "best": tf.argmax(b, 1)}

    @tf.function(input_signature=[tf.TensorSpec([2, 3], tf.float32, "x")])
    def fixed(self, x):
        return {"y": x * 2}

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 3], tf.float32, "x")])
    def singular(self, x):
        return {"y": tf.linalg.svd(x, compute_uv=False)}

    @tf.function(input_signature=[])
    def constant(self):
        return {"y": tf.ones(3)}


layers = tf.keras.layers
picture = tf.keras.Sequential(
    [
        layers.Input((8, 8, 3), name="picture"),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, activation="softmax"),
    ]
)
picture.compile("adam", "sparse_categorical_crossentropy")
pictures = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
picture.fit(pictures, (pictures.mean((1, 2, 3)) > 0).astype(int), epochs=2, verbose=0)
picture.export(folder / "picture", verbose=False)

several = Several()
signatures = {name: getattr(several, name) for name in ("served", "fixed", "singular", "constant")}
tf.saved_model.save(several, str(folder / "several"), signatures=signatures)


class Trained(tf.Module):
    """As Keras 2 saved what it trained: with an optimizer that has a state for each variable, and that TensorFlow does not read again."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.ones([3, 2]))
        self.table = tf.constant([1.0, 2.0])  # what a function takes from outside, and is no variable
        self.optimizer = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def served(self, x):
        return {"y": x @ self.weights + self.table}


trained = Trained()
trained.optimizer.minimize(lambda: tf.reduce_sum(trained.served(tf.ones([1, 3]))["y"]), var_list=[trained.weights])
tf.saved_model.save(trained, str(folder / "trained"), signatures={"serving_default": trained.served})
