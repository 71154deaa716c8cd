"""Callbacks that publish likelihoods, each by one estimator."""
