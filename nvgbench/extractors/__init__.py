"""Networks that turn images into features for the metrics, and the cache of their features."""
