"""Classifiers on frozen features: nearest neighbours, ridge and logistic regression, class means of a few images."""
