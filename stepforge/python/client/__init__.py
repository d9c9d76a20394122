"""``tensorflow.python.client``: sessions."""
