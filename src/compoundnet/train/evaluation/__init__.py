"""Evaluation of a model on a data set: figures for people, as JSON, and image by image."""
