"""The shipped example: an English grammar tutor with real training data and real checkpoints.

``corpus`` writes the eval set and the training corpus. ``train`` turns the corpus into a checkpoint
and logs it to MLflow. ``grammar_tutor`` is the only module in the bundle.
"""
