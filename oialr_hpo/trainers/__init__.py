"""OIALR in other packages' trainers, a file for each: `oialr_hpo.trainers.huggingface`, `oialr_hpo.trainers.lightning`.

Each has a callback, `OIALRCallback`, and is imported where its package is installed.
"""
