"""A search as a page to read: charts, tables and an Optuna study, all derived from its trial files."""
