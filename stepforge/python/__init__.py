"""``tensorflow.python``: the few names that programs take from inside of TensorFlow."""
