"""The history of every customer: a projection of the log, its REST API and its live stream."""
