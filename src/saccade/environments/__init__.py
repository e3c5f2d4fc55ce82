"""Tools whose dependencies conflict with ours, each in a Python environment of its own.

A tool environment is a name, a file of pinned requirements (``NAME.txt`` in this folder) and
scripts that run in it (`saccade.environments.scripts`). It is made on demand by
``saccade doctor --install NAME``.
"""
