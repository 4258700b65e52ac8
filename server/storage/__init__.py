"""The only place that knows SQL: one function for each question, plain values in and out."""
