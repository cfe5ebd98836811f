# SPDX-License-Identifier: Apache-2.0
"""The one process that starts, counts, publishes, signals and reaps workers. See README.md."""
