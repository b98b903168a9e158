"""The shipped example: an English grammar tutor that is really trained.

``corpus`` writes the eval set and the training corpus, ``train`` turns the corpus into a
checkpoint and logs it to MLflow, ``grammar_tutor`` is the only part that goes into the bundle.
"""
