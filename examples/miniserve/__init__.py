"""A small server for the promoted model: an example of a registry's consumer.

``versions`` finds the version in force and keeps bundles on disk, ``process`` runs a model,
``service`` replaces one version by another, and ``app`` is the HTTP interface.
"""
