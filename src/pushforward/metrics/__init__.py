"""Metrics of two sets of rows: arrays in, measured figures with intervals out; no metric knows a model."""
