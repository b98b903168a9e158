"""The deploy workflow under nektos/act, a runner that this project did not write.

It runs on this machine, without containers. Every step runs its real command, and every job
installs its real lock file. The pinned actions are replaced, since there is no network.
"""
